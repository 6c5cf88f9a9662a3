-- Which of these queues are managed.
SELECT q.name FROM tandem.queue AS q WHERE q.managed AND q.name = ANY (%(queues)s::text[])
