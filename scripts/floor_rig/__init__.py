"""The floors, the full probe and the wake-up under programs that enqueue by SQL and commit when they please."""
