-- Writes who changed what, in the transaction of the change.
INSERT INTO public.customer_audit (at, actor, action, target, before, after)
VALUES (tandem.clock(), %(actor)s, %(action)s, %(target)s, %(before)s::jsonb, %(after)s::jsonb)
