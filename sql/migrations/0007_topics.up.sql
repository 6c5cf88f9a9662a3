-- Topics: messages, groups, deliveries, audit.
SELECT 1;
