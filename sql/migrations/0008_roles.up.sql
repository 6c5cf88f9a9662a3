-- Least-privilege roles and API keys.
SELECT 1;
