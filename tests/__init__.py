"""Tests: they mirror app/ and workers/; support/ holds what they share."""
