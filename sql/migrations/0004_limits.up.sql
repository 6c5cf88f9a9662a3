-- Managed queues: keys, limits, rates, order and fairness.
SELECT 1;
