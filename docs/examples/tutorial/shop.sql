-- The tables of docs/tutorial.md. They name their schema: a role called tandem would put them into the schema tandem.
CREATE TABLE IF NOT EXISTS public.orders (id bigint PRIMARY KEY, total numeric NOT NULL);
CREATE TABLE IF NOT EXISTS public.ledger (order_id bigint NOT NULL, amount numeric NOT NULL);
