-- Notes what somebody did; sealed into the chain later.
INSERT INTO tandem.audit_entry (at, xid, actor, action, topic, group_name, items, detail)
VALUES (tandem.clock(), pg_current_xact_id(), %(actor)s, %(action)s, %(topic)s, %(group)s, %(items)s, %(detail)s::jsonb)
