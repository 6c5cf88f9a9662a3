-- The first entry that belongs before the end of the last batch, but is not in the chain: somebody slipped it in.
SELECT e.id FROM tandem.audit_entry AS e
WHERE e.xid < (SELECT h.xid_end FROM tandem.audit_head AS h ORDER BY h.seq DESC LIMIT 1)
  AND NOT EXISTS (SELECT FROM tandem.audit_chain AS c WHERE c.entry_id = e.id)
ORDER BY e.id LIMIT 1
