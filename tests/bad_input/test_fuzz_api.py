"""scripts/fuzz_api: its short form finds nothing in our API, and it does find what is planted."""

import json
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from scripts.fuzz import api
from tests.support.waiting import eventually


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    """Exit code and the report on the last line."""
    code = api.main([*arguments, "--json"])
    report: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return code, report


def test_generated_calls_find_nothing(db_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(capsys, "--database", db_url, "--seed", "20261122", "--examples", "2")
    assert code == 0, report
    assert report["operations"] == report["of_operations"]
    assert (report["unforeseen"], report["misplaced_jobs"], report["events_without_job"]) == (0, 0, 0)


class Thing(BaseModel):
    """What the broken service says that it answers."""

    number: int


@pytest.fixture
def broken() -> Iterator[str]:
    """A service with three faults: a 500 for one value, an answer of another shape, a status nobody documented."""
    app = FastAPI()

    @app.get("/divide/{number}")
    async def divide(number: int) -> Thing:
        return Thing(number=100 // max(number, 0))

    @app.get("/shape", responses={200: {"model": Thing}})
    async def shape() -> dict[str, str]:
        return {"number": "seven"}

    @app.get("/status", responses={200: {"model": Thing}})
    async def status() -> Thing:
        return Thing(number=1)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_what_is_planted_is_found(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(capsys, "--api", broken, "--seconds", "6", "--seed", "1", "--examples", "20")
    assert code == api.FOUND, report
    failures = report["failures"]
    assert isinstance(failures, list)
    assert {"Server error", "Response violates schema"} <= {one["what"] for one in failures}, failures
