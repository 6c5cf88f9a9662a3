"""The schema's history. Each version runs frozen SQL text or op.*, and never imports models of the application."""
