-- The customers application: tiers, usage, invoices, notifications.
SELECT 1;
