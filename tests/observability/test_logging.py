"""Log lines: both forms, the ids around them, and what never gets into them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from app.config import LoggingSettings
from app.context import bind, present
from app.observability.logging import QUIET, set_up_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the process's logs go for the length of a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)


def write(stream: io.StringIO, form: Literal["json", "text"], message: str, *args: object) -> str:
    set_up_logging(LoggingSettings(format=form), stream=stream)
    with bind(request_id="call-7"), bind(job_id=42, conversation_id="conv_1"):
        logging.getLogger("app.test").info(message, *args)
    return stream.getvalue()


def test_json_lines_carry_the_ids_that_are_bound(stream: io.StringIO) -> None:
    line = json.loads(write(stream, "json", "did %s", "it"))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "app.test",
        "message": "did it",
        "request_id": "call-7",
        "job_id": 42,
        "conversation_id": "conv_1",
    }


def test_text_lines_carry_them_too(stream: io.StringIO) -> None:
    line = write(stream, "text", "did %s", "it")
    assert line.endswith("INFO    app.test: did it request_id=call-7 job_id=42 conversation_id=conv_1\n")


def test_ids_end_with_their_block() -> None:
    with bind(request_id="a"):
        with bind(request_id="b", job_id=1):
            assert present() == {"request_id": "b", "job_id": 1}
        assert present() == {"request_id": "a"}
    assert present() == {}


@pytest.mark.parametrize("form", ["json", "text"])
def test_one_message_is_one_line_and_cannot_drive_a_terminal(
    stream: io.StringIO, form: Literal["json", "text"]
) -> None:
    written = write(stream, form, "from %s", "user\r\nINFO app: forged \x1b[2J\u2028")
    assert written.count("\n") == 1
    assert not any(character in written for character in "\r\x1b")


@pytest.mark.parametrize("form", ["json", "text"])
def test_passwords_in_addresses_are_left_out(stream: io.StringIO, form: Literal["json", "text"]) -> None:
    set_up_logging(LoggingSettings(format=form), stream=stream)
    try:
        raise ConnectionError("no answer from postgresql://me:hunter2@db:5432/app")
    except ConnectionError:
        logging.getLogger("app.test").exception("cannot reach postgresql://me:hunter2@db/app")
    assert "hunter2" not in stream.getvalue()
    assert "ConnectionError" in stream.getvalue()
    assert "me:***@db" in stream.getvalue()


def test_the_level_counts_and_chatty_libraries_are_quiet(stream: io.StringIO) -> None:
    set_up_logging(LoggingSettings(level="DEBUG"), stream=stream)
    logging.getLogger("app.test").debug("heard")
    logging.getLogger("apscheduler.scheduler").info("not heard")
    logging.getLogger("apscheduler.scheduler").warning("heard too")
    assert [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()] == ["heard", "heard too"]
