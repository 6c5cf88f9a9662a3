-- Writes the signed end of a batch.
INSERT INTO tandem.audit_head (seq, hash, xid_end, sealed_at, key_id, signature)
VALUES (%(seq)s, %(hash)s, %(xid_end)s::text::xid8, %(sealed_at)s, %(key_id)s, %(signature)s)
