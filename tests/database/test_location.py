"""Which database a process works on."""

from pathlib import Path

import pytest

from app.config import DatabaseSettings, Settings
from app.database import embedded
from app.database.connect import connect_sync
from app.database.location import database


def test_a_given_address_is_used_as_it_is_and_nothing_is_started(tmp_path: Path) -> None:
    settings = Settings(database_url="postgresql://db/app?sslmode=verify-full")
    with database(settings, root=tmp_path) as place:
        assert (place.url, place.listen_url, place.embedded) == (
            "postgresql://db/app?sslmode=verify-full",
            "postgresql://db/app?sslmode=verify-full",
            False,
        )
    assert list(tmp_path.iterdir()) == []


def test_listening_may_go_another_way(tmp_path: Path) -> None:
    settings = Settings(
        database_url="postgresql://pooler/app?sslmode=verify-full",
        database_listen_url="postgresql://direct/app?sslmode=verify-full",
    )
    with database(settings, root=tmp_path) as place:
        assert (place.url, place.listen_url) == (
            "postgresql://pooler/app?sslmode=verify-full",
            "postgresql://direct/app?sslmode=verify-full",
        )


@pytest.mark.embedded
def test_without_an_address_the_embedded_server_runs_for_the_block(open_directory: Path) -> None:
    settings = Settings(database_url=None, database=DatabaseSettings(embedded_settings={"work_mem": "5MB"}))
    with database(settings, root=open_directory) as place:
        assert place.embedded
        with connect_sync(place.listen_url, name="x") as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
    assert embedded.find(open_directory) is None
