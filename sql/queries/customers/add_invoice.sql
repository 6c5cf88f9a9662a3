-- Issues an invoice; one that was issued before stays as it is.
INSERT INTO public.customer_invoices (customer_id, month, currency, total, document, issued_at)
VALUES (%(customer_id)s, %(month)s, %(currency)s, %(total)s, %(document)s::jsonb, tandem.clock())
ON CONFLICT (customer_id, month) DO NOTHING
