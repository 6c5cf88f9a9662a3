-- The tables of docs/tutorial.md.
CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, total numeric NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (order_id bigint NOT NULL, amount numeric NOT NULL);
