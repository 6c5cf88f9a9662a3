CREATE TABLE invoice (
    number      bigint      PRIMARY KEY,
    amount      numeric     NOT NULL,
    paid        boolean     NOT NULL DEFAULT false,
    reminded_at timestamptz
);
