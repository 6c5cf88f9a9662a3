-- The customers application: tiers, customers, quotas, usage, price lists, invoices, notifications, audit.
-- Frozen with the first release: later changes come as later migrations.

CREATE TABLE public.customer_tiers (
    tier             text COLLATE "C" NOT NULL PRIMARY KEY CONSTRAINT customer_tiers_name CHECK (tier ~ '^[a-z][a-z0-9_-]{0,31}$'),
    rank             integer     NOT NULL CONSTRAINT customer_tiers_rank UNIQUE,
    rate_per_minute  integer     NOT NULL CONSTRAINT customer_tiers_rate CHECK (rate_per_minute BETWEEN 1 AND 1000000),
    daily_quota      integer     CONSTRAINT customer_tiers_quota CHECK (daily_quota >= 0),
    max_running      integer     NOT NULL CONSTRAINT customer_tiers_running CHECK (max_running BETWEEN 0 AND 100000),
    weight           double precision NOT NULL CONSTRAINT customer_tiers_weight CHECK (weight > 0 AND weight <= 1000),
    bypasses_global  boolean     NOT NULL,
    when_full        text COLLATE "C" NOT NULL CONSTRAINT customer_tiers_full CHECK (when_full IN ('take', 'wait', 'refuse')),
    longest_wait     interval    CONSTRAINT customer_tiers_wait CHECK (longest_wait > interval '0'),
    ageing_every     interval    NOT NULL CONSTRAINT customer_tiers_ageing CHECK (ageing_every > interval '0'),
    base_priority    double precision NOT NULL CONSTRAINT customer_tiers_base CHECK (base_priority > 0 AND base_priority <= 1000000),
    billing          text COLLATE "C" NOT NULL CONSTRAINT customer_tiers_billing
                     CHECK (billing IN ('fixed-usage', 'tiered', 'fixed-payg', 'free')),
    overage          text COLLATE "C" NOT NULL CONSTRAINT customer_tiers_overage
                     CHECK (overage IN ('discounted', 'standard', 'blocked')),
    tracking         text COLLATE "C" NOT NULL CONSTRAINT customer_tiers_tracking
                     CHECK (tracking IN ('full', 'monthly', 'basic', 'limited')),
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE public.customer_tiers IS 'What each tier may do and how it pays; changed at run time, effective with the next request';
COMMENT ON COLUMN public.customer_tiers.daily_quota IS 'Accepted jobs per day of the customer''s time zone; NULL: unlimited';
COMMENT ON COLUMN public.customer_tiers.ageing_every IS 'The priority doubles each time a job has waited this long';

INSERT INTO public.customer_tiers (tier, rank, rate_per_minute, daily_quota, max_running, weight, bypasses_global, when_full,
    longest_wait, ageing_every, base_priority, billing, overage, tracking)
VALUES ('vip',     4, 60, NULL, 10, 8, true,  'take',   NULL,      '15 min', 8, 'fixed-usage', 'discounted', 'full'),
       ('premium', 3, 30, 1000, 5,  4, false, 'wait',   '30 min',  '15 min', 4, 'tiered',      'standard',   'monthly'),
       ('pro',     2, 15, 500,  3,  2, false, 'wait',   '2 hours', '1 hour', 2, 'fixed-payg',  'standard',   'basic'),
       ('free',    1, 5,  100,  1,  1, false, 'refuse', NULL,      '1 hour', 1, 'free',        'blocked',    'limited');

CREATE TABLE public.customers (
    customer_id      text COLLATE "C" NOT NULL PRIMARY KEY CONSTRAINT customers_id CHECK (length(customer_id) BETWEEN 1 AND 128),
    tier             text COLLATE "C" NOT NULL REFERENCES public.customer_tiers (tier),
    name             text        NOT NULL DEFAULT '',
    time_zone        text        NOT NULL DEFAULT 'UTC',
    language         text COLLATE "C" NOT NULL DEFAULT 'en' CONSTRAINT customers_language CHECK (language IN ('en', 'vi')),
    notify_by        text COLLATE "C" NOT NULL DEFAULT 'none' CONSTRAINT customers_channel
                     CHECK (notify_by IN ('none', 'mail', 'webhook')),
    email            text,
    webhook_url      text,
    webhook_secret   text,
    max_running      integer     CONSTRAINT customers_running CHECK (max_running BETWEEN 0 AND 100000),
    rate_per_minute  integer     CONSTRAINT customers_rate CHECK (rate_per_minute BETWEEN 1 AND 1000000),
    daily_quota      integer     CONSTRAINT customers_quota CHECK (daily_quota >= 0),
    weight           double precision CONSTRAINT customers_weight CHECK (weight > 0 AND weight <= 1000),
    recent_succeeded integer     NOT NULL DEFAULT 0,
    recent_ended     integer     NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CONSTRAINT customers_address CHECK (notify_by <> 'mail' OR email IS NOT NULL),
    CONSTRAINT customers_hook CHECK (notify_by <> 'webhook' OR (webhook_url IS NOT NULL AND webhook_secret IS NOT NULL))
) WITH (fillfactor = 80);
COMMENT ON TABLE public.customers IS 'Who sends jobs. max_running, rate_per_minute, daily_quota and weight override the tier''s';
COMMENT ON COLUMN public.customers.recent_ended IS 'Jobs that ended within 30 days, and how many of them succeeded: refreshed periodically';

CREATE TABLE public.customer_tier_history (
    customer_id      text COLLATE "C" NOT NULL REFERENCES public.customers (customer_id),
    since            timestamptz NOT NULL,
    tier             text COLLATE "C" NOT NULL,
    PRIMARY KEY (customer_id, since)
);
COMMENT ON TABLE public.customer_tier_history IS 'Append-only: since when a customer has which tier; the fixed fee of a month needs it';

CREATE TABLE public.customer_capacity (
    single           boolean     NOT NULL PRIMARY KEY DEFAULT true CONSTRAINT customer_capacity_single CHECK (single),
    capacity         integer     NOT NULL CONSTRAINT customer_capacity_sane CHECK (capacity BETWEEN 0 AND 10000000),
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO public.customer_capacity (capacity) VALUES (1000);
COMMENT ON TABLE public.customer_capacity IS
    'Running + waiting jobs (VIP not counted) from which the system is full. Locked by those whose tier may be refused';

CREATE TABLE public.customer_quota_days (
    customer_id      text COLLATE "C" NOT NULL,
    day              date        NOT NULL,
    accepted         integer     NOT NULL,
    overage          integer     NOT NULL,
    PRIMARY KEY (customer_id, day)
) WITH (fillfactor = 50);
COMMENT ON TABLE public.customer_quota_days IS
    'Accepted jobs of a customer''s day: changed only in the transaction that writes the job, so it cannot drift from them';

CREATE TABLE public.customer_jobs (
    job_id           bigint      NOT NULL PRIMARY KEY,
    customer_id      text COLLATE "C" NOT NULL REFERENCES public.customers (customer_id),
    tier             text COLLATE "C" NOT NULL,
    workflow         text COLLATE "C" NOT NULL,
    counted          boolean     NOT NULL,
    overage          boolean     NOT NULL,
    importance       text COLLATE "C" NOT NULL CONSTRAINT customer_jobs_importance
                     CHECK (importance IN ('normal', 'urgent', 'critical')),
    revenue          boolean     NOT NULL,
    light            boolean     NOT NULL,
    deadline         timestamptz,
    wait_until       timestamptz,
    priority         double precision NOT NULL,
    notify           boolean     NOT NULL,
    idempotency_key  text COLLATE "C" CONSTRAINT customer_jobs_key CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    body_hash        bytea       NOT NULL,
    day              date        NOT NULL,
    accepted_at      timestamptz NOT NULL,
    started_at       timestamptz,
    ended_at         timestamptz,
    outcome          text COLLATE "C" CONSTRAINT customer_jobs_outcome CHECK (outcome IN ('SUCCEEDED', 'DEAD', 'CANCELLED')),
    error_class      text COLLATE "C",
    CONSTRAINT customer_jobs_end CHECK ((outcome IS NULL) = (ended_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX customer_jobs_open ON public.customer_jobs (job_id) WHERE ended_at IS NULL;
CREATE INDEX customer_jobs_counted ON public.customer_jobs (job_id) WHERE ended_at IS NULL AND counted;
CREATE INDEX customer_jobs_of ON public.customer_jobs (customer_id, job_id);
CREATE INDEX customer_jobs_ended ON public.customer_jobs (customer_id, ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX customer_jobs_idempotency ON public.customer_jobs (customer_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
COMMENT ON TABLE public.customer_jobs IS
    'One row per accepted job: whose it is and how it ended; written in the transactions that accept and end the job';
COMMENT ON COLUMN public.customer_jobs.counted IS 'Whether it counts against the capacity (VIP does not)';

CREATE TABLE public.customer_usage (
    id               bigint      NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer_id      text COLLATE "C" NOT NULL,
    job_id           bigint      NOT NULL,
    token            bigint      NOT NULL,
    what             text COLLATE "C" NOT NULL CONSTRAINT customer_usage_what
                     CHECK (what IN ('job', 'overage', 'run_ms', 'failed_ms')),
    attempt          smallint    NOT NULL,
    tier             text COLLATE "C" NOT NULL,
    workflow         text COLLATE "C" NOT NULL,
    quantity         bigint      NOT NULL CONSTRAINT customer_usage_quantity CHECK (quantity >= 0),
    occurred_at      timestamptz NOT NULL,
    CONSTRAINT customer_usage_once UNIQUE (job_id, token, what)
);
CREATE INDEX customer_usage_of ON public.customer_usage (customer_id, occurred_at);
COMMENT ON TABLE public.customer_usage IS 'The ledger, append-only: what was used, each accepted job and each attempt exactly once';
COMMENT ON COLUMN public.customer_usage.token IS
    'The attempt''s lease token, 0 for the acceptance: attempt numbers come again after a rescue and a redrive, tokens do not';

CREATE FUNCTION public.customer_row_is_kept() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation',
        HINT = 'Correct a wrong entry with another one.';
END
$$;
CREATE TRIGGER customer_usage_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.customer_usage
    FOR EACH STATEMENT EXECUTE FUNCTION public.customer_row_is_kept();

CREATE TABLE public.customer_price_lists (
    tier             text COLLATE "C" NOT NULL REFERENCES public.customer_tiers (tier),
    version          integer     NOT NULL CONSTRAINT customer_price_lists_version CHECK (version >= 1),
    valid_from       timestamptz NOT NULL,
    currency         text COLLATE "C" NOT NULL CONSTRAINT customer_price_lists_currency CHECK (currency ~ '^[A-Z]{3}$'),
    monthly_fee      numeric(14, 2) NOT NULL CONSTRAINT customer_price_lists_fee CHECK (monthly_fee >= 0),
    prices           jsonb       NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tier, version),
    CONSTRAINT customer_price_lists_from UNIQUE (tier, valid_from)
);
COMMENT ON TABLE public.customer_price_lists IS 'Versioned, never changed: the list of a tier with the latest valid_from before a use prices it';
COMMENT ON COLUMN public.customer_price_lists.prices IS
    '{"job": [{"up_to": 10000, "price": "0.010"}, {"up_to": null, "price": "0.008"}], "run_ms": [...]}: steps by units of the month';
CREATE TRIGGER customer_price_lists_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.customer_price_lists
    FOR EACH STATEMENT EXECUTE FUNCTION public.customer_row_is_kept();

INSERT INTO public.customer_price_lists (tier, version, valid_from, currency, monthly_fee, prices)
VALUES ('vip', 1, '2000-01-01 00:00:00+00', 'USD', 499, '{"job": [{"up_to": 50000, "price": "0"}, {"up_to": null, "price": "0.004"}],
         "overage": [{"up_to": null, "price": "0.004"}], "run_ms": [{"up_to": null, "price": "0.0000005"}]}'),
       ('premium', 1, '2000-01-01 00:00:00+00', 'USD', 0, '{"job": [{"up_to": 10000, "price": "0.010"}, {"up_to": 20000, "price": "0.008"},
         {"up_to": null, "price": "0.006"}], "overage": [{"up_to": null, "price": "0.010"}]}'),
       ('pro', 1, '2000-01-01 00:00:00+00', 'USD', 29, '{"job": [{"up_to": 5000, "price": "0"}, {"up_to": null, "price": "0.010"}],
         "overage": [{"up_to": null, "price": "0.010"}]}'),
       ('free', 1, '2000-01-01 00:00:00+00', 'USD', 0, '{}');

CREATE TABLE public.customer_invoices (
    customer_id      text COLLATE "C" NOT NULL REFERENCES public.customers (customer_id),
    month            date        NOT NULL CONSTRAINT customer_invoices_month CHECK (extract(day FROM month) = 1),
    number           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT customer_invoices_number UNIQUE,
    currency         text COLLATE "C" NOT NULL,
    total            numeric(14, 2) NOT NULL,
    document         jsonb       NOT NULL,
    issued_at        timestamptz NOT NULL,
    PRIMARY KEY (customer_id, month)
);
COMMENT ON TABLE public.customer_invoices IS 'Issued once per customer and month, after the month''s end in the customer''s time zone';

CREATE TABLE public.customer_notifications (
    id               uuid        NOT NULL PRIMARY KEY,
    customer_id      text COLLATE "C" NOT NULL REFERENCES public.customers (customer_id),
    topic            text COLLATE "C" NOT NULL,
    once             text COLLATE "C" NOT NULL,
    job_id           bigint,
    channel          text COLLATE "C" NOT NULL CONSTRAINT customer_notifications_channel
                     CHECK (channel IN ('none', 'mail', 'webhook')),
    facts            jsonb       NOT NULL,
    created_at       timestamptz NOT NULL,
    sent_at          timestamptz,
    failed_at        timestamptz,
    CONSTRAINT customer_notifications_once UNIQUE (customer_id, once)
);
CREATE INDEX customer_notifications_of ON public.customer_notifications (customer_id, created_at);
COMMENT ON TABLE public.customer_notifications IS
    'What a customer is told; `once` says what it is about, so that nothing is told twice. Sent by jobs of kind customers.notify';

CREATE TABLE public.customer_audit (
    id               bigint      NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at               timestamptz NOT NULL,
    actor            text        NOT NULL,
    action           text COLLATE "C" NOT NULL,
    target           text        NOT NULL,
    before           jsonb,
    after            jsonb
);
CREATE INDEX customer_audit_target ON public.customer_audit (target, id);
COMMENT ON TABLE public.customer_audit IS 'Append-only: who changed what of tiers, customers, prices, limits and capacity, before and after';
CREATE TRIGGER customer_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.customer_audit
    FOR EACH STATEMENT EXECUTE FUNCTION public.customer_row_is_kept();

CREATE TABLE public.workflow_health (
    workflow         text COLLATE "C" NOT NULL PRIMARY KEY,
    asked_at         timestamptz NOT NULL,
    job_id           bigint      NOT NULL,
    answered_at      timestamptz,
    seconds          double precision,
    failed_at        timestamptz,
    error            text
) WITH (fillfactor = 50);
COMMENT ON TABLE public.workflow_health IS 'The last canary job of each workflow: when it was sent, when it answered, what went wrong';
