"""Fuzzers: the HTTP API against its document (api.py), and parsers one by one (parsers.py)."""
