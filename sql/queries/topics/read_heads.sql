-- Signed ends of batches behind a place in the chain.
SELECT h.seq, h.hash, h.xid_end::text AS xid_end, h.sealed_at, h.key_id, h.signature
FROM tandem.audit_head AS h WHERE h.seq > %(after)s ORDER BY h.seq LIMIT %(most)s
