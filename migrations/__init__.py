"""The schema's history. Each version runs frozen SQL text or op.*, and never imports the service's models."""
