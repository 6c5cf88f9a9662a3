"""The tutorial's handlers and back end, run as the tutorial runs them."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from app.applications import make_registry
from app.config import CHECKOUT, Settings
from app.database.connect import connect
from app.database.engine import make_engine, make_session_factory
from tests.support.claims import rows, value
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async

TUTORIAL = CHECKOUT / "docs" / "examples" / "tutorial"


@pytest.fixture
def order() -> Iterator[ModuleType]:
    """The tutorial's back end, with its folder on the path as PYTHONPATH would put it there."""
    sys.path.insert(0, str(TUTORIAL))
    yield importlib.import_module("order")
    sys.path.remove(str(TUTORIAL))
    for name in ("order", "receipts"):
        sys.modules.pop(name, None)


async def test_the_tutorials_course(db_url: str, order: ModuleType) -> None:
    engine = make_engine(db_url, name="test")
    registry = make_registry(Settings(handlers=("receipts",)), make_session_factory(engine))
    async with await connect(db_url, name="test") as connection:
        await connection.execute((TUTORIAL / "shop.sql").read_bytes())
        async with supervised(db_url, registry, sweep=True):
            await connection.execute("SELECT tandem.enqueue('send-receipt', '{\"order\": 1}')")
            order.order(db_url, 7, 120)
            with pytest.raises(psycopg.errors.UniqueViolation):
                order.order(db_url, 7, 120)
            order.order(db_url, 13, 99)
            await eventually_async(lambda: _ended(connection, 7), timeout=30)
        found = await rows(
            connection,
            "SELECT kind, payload->>'order', outcome, attempt FROM tandem.done"
            " JOIN tandem.job ON id = job_id ORDER BY 1, 2",
        )
        assert found == [
            ("book-order", "13", "SUCCEEDED", 1),
            ("book-order", "7", "SUCCEEDED", 1),
            ("print-label", "13", "DEAD", 1),
            ("print-label", "7", "SUCCEEDED", 2),
            ("send-receipt", "1", "SUCCEEDED", 1),
            ("send-receipt", "13", "SUCCEEDED", 1),
            ("send-receipt", "7", "SUCCEEDED", 1),
        ]
        assert await rows(connection, "SELECT order_id::int, amount::int FROM ledger ORDER BY 1") == [
            (7, 120),
            (13, 99),
        ]
    await engine.dispose()


async def _ended(connection: Any, count: int) -> bool:
    return bool(await value(connection, "SELECT count(*) = %s FROM tandem.done", count))


def test_every_file_and_document_it_names_exists() -> None:
    text = (CHECKOUT / "docs" / "tutorial.md").read_text()
    for name in re.findall(r"\]\(([a-z]+\.md)\)", text):
        assert (CHECKOUT / "docs" / name).is_file(), name
    for name in re.findall(r"(?:docs/examples|sql/inspect)/[\w/.]+\.(?:py|sql)", text):
        assert Path(CHECKOUT, name).is_file(), name
