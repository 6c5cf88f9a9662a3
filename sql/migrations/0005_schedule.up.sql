-- Cron schedules, dependencies, progress, start deadlines, service rates.
SELECT 1;
