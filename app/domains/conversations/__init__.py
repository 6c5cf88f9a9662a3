"""Conversations: one ends, its log is scored, the friendship is updated, the next agents are chosen."""
