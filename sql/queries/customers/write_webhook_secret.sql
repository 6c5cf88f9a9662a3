-- Stores a secret of a webhook anew; the secret itself is the same one.
UPDATE public.customers SET webhook_secret = %(stored)s WHERE customer_id = %(customer_id)s
