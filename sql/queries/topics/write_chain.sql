-- Appends sealed entries to the chain. Two sealers cannot both succeed: a place in the chain is taken once.
INSERT INTO tandem.audit_chain (seq, entry_id, hash)
SELECT u.seq, u.entry_id, u.hash FROM unnest(%(seqs)s::bigint[], %(entry_ids)s::bigint[], %(hashes)s::bytea[]) AS u(seq, entry_id, hash)
