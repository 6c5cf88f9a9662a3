"""A database with jobs in every state, and the environment that leads the commands to it."""

import asyncio

import pytest

from tests.support.states import States, fill


@pytest.fixture
def states(db_url: str, monkeypatch: pytest.MonkeyPatch) -> States:
    """Jobs in every state; commands find them by DATABASE_URL."""
    monkeypatch.setenv("DATABASE_URL", db_url)
    return asyncio.run(fill(db_url))
