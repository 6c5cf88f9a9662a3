-- An issued invoice.
SELECT i.number, i.document, i.issued_at FROM public.customer_invoices AS i
WHERE i.customer_id = %(customer_id)s AND i.month = %(month)s
