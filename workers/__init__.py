"""The worker process: claims jobs, runs their handlers, finishes them, and sweeps. Nothing here is imported by app."""
