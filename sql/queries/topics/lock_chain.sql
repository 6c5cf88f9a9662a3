-- Makes this transaction the one sealer of the audit log (the key spells "audit"); false when another is at it.
SELECT pg_try_advisory_xact_lock(418581342580) AS locked
