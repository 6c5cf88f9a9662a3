"""Tandem: a PostgreSQL-native transactional job queue and the five applications that run on it."""
