"""The HTTP edge that all applications share: strict bodies, problems, request ids, health. Knows no domain."""
