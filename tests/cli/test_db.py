"""`tandem db`: answers for people and programs, exit codes, and help with an example."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import db, main
from app.database import embedded, version
from app.errors import AppError

HEAD = version.known()[-1]


def run(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; an explained error counts as exit code 1 with its message."""
    result = CliRunner().invoke(main.app, [*arguments])
    if isinstance(result.exception, AppError):
        return 1, result.exception.message
    return result.exit_code, result.output


def facts(*arguments: str) -> dict[str, object]:
    """What a command answers to a program."""
    _, output = run(*arguments, "--json")
    answer = json.loads(output)
    assert isinstance(answer, dict)
    return answer


def test_a_database_is_upgraded_checked_and_described(
    empty_db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_db_url)
    assert run("db", "check")[0] == 1
    assert facts("db", "check") == {"ok": False, "code": "schema-missing", "found": None, "needed": HEAD}
    assert facts("db", "upgrade") == {"before": None, "after": HEAD, "changed": True}
    assert run("db", "upgrade") == (0, f"already at {HEAD}\n")
    assert run("db", "check") == (0, f"ok: the schema is at {HEAD}\n")
    current = facts("db", "current")
    assert (current["version"], current["newest"], current["embedded"]) == (HEAD, HEAD, False)
    assert facts("db", "url") == {"url": empty_db_url, "embedded": False}


def test_a_server_of_somebody_else_is_neither_started_nor_stopped(
    empty_db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_db_url)
    for command in ("start", "stop"):
        code, message = run("db", command)
        assert code == 1
        assert "not ours" in message


@pytest.mark.embedded
def test_the_embedded_server_is_started_kept_and_stopped(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(db, "CHECKOUT", open_directory)
    code, message = run("db", "url")
    assert code == 1
    assert "tandem db start" in message
    started = facts("db", "start")
    assert facts("db", "url")["url"] == started["url"]
    assert facts("db", "upgrade")["after"] == HEAD
    assert str(facts("db", "url", "--tcp")["url"]).partition("@")[2].startswith("127.0.0.1:")
    assert facts("db", "stop") == {"stopped": True}
    assert facts("db", "stop") == {"stopped": False}
    # A command that needs it brings it up, and it is gone afterwards.
    assert facts("db", "check") == {"ok": True, "version": HEAD}
    assert embedded.find(open_directory) is None


@pytest.mark.parametrize("command", ["upgrade", "check", "current", "url", "start", "stop"])
def test_every_command_shows_an_example(command: str) -> None:
    code, output = run("db", command, "--help")
    assert code == 0
    assert "Example:" in output
    assert "--json" in output


def test_an_error_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=2")
    monkeypatch.setattr("sys.argv", ["tandem", "db", "current"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("tandem: the database cannot be reached")
    assert len(told.splitlines()) == 1
