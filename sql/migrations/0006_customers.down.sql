-- Removes what 0006_customers made, customers and their ledger included.
DROP TABLE public.workflow_health, public.customer_audit, public.customer_notifications, public.customer_invoices,
    public.customer_price_lists, public.customer_usage, public.customer_jobs, public.customer_quota_days,
    public.customer_capacity, public.customer_tier_history, public.customers, public.customer_tiers;
DROP FUNCTION public.customer_row_is_kept();
