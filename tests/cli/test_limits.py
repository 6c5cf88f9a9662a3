"""`tandem limits` and `tandem queues manage`: what they set is what admission reads, and errors say the way out."""

import psycopg
import pytest

from app.queue.job import NewJob
from tests.support.command_line import facts, run
from tests.support.jobs import enqueue_all


@pytest.fixture(autouse=True)
def place(db_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commands find the database by DATABASE_URL."""
    monkeypatch.setenv("DATABASE_URL", db_url)
    return db_url


def targets() -> dict[str, dict[str, object]]:
    return {row["target"]: row for row in facts("limits", "list")["limits"]}


def test_limits_are_set_listed_and_cleared() -> None:
    facts("queues", "manage", "mail", "--key-limit", "2", "--ordered", "--dead-head", "block")
    for words in (["global", "--max", "9"], ["kind:slow", "--max", "0"], ["queue:mail", "--max", "5"]):
        assert run("limits", "set", *words)[0] == 0
    facts("limits", "set", "key:mail/a b", "--max", "3", "--weight", "2", "--rate", "0.5", "--exempt")
    facts("limits", "set", "key:mail/a b", "--burst", "4")
    found = targets()
    assert set(found) == {"global", "kind:slow", "queue:mail", "key:mail/a b"}
    assert [found[name]["max_running"] for name in ("global", "kind:slow", "queue:mail")] == [9, 0, 5]
    key = found["key:mail/a b"]
    assert (key["max_running"], key["weight"], key["rate"], key["burst"], key["exempt"]) == (
        3,
        2.0,
        0.5,
        4,
        True,
    )
    assert found["queue:mail"]["note"] == "ordered, past dead letters: block, each key: 2"
    for target in ("global", "kind:slow", "queue:mail", "key:mail/a b"):
        assert run("limits", "clear", target)[0] == 0
    assert {name: row["max_running"] for name, row in targets().items()} == {"queue:mail": None}


def test_managing_a_queue_moves_what_waits_there_and_back(place: str) -> None:
    enqueue_all(place, [NewJob("test", {}, queue="mail") for _ in range(3)])
    assert facts("queues", "manage", "mail") == {"queue": "mail", "managed": True, "moved": 3}
    assert facts("queues", "manage", "mail", "--off") == {"queue": "mail", "managed": False, "moved": 3}
    code, text = run("queues", "manage", "mail", "--off")
    assert code == 1
    assert "'mail' is not managed" in text


def test_a_stopped_key_goes_on(place: str) -> None:
    facts("queues", "manage", "mail", "--ordered", "--dead-head", "block")
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("INSERT INTO tandem.halted VALUES ('mail', 'a', 1, now())")
    assert targets()["key:mail/a"]["note"] == "stopped behind dead letter 1"
    assert run("limits", "resume", "key:mail/a") == (0, "key:mail/a goes on\n")
    assert run("limits", "resume", "key:mail/a")[0] == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["set", "nonsense", "--max", "1"], "none of global"),
        (["set", "global"], "take max_running"),
        (["set", "queue:nowhere", "--max", "1"], "there is no queue"),
        (["set", "key:mail/a", "--weight", "-1"], "positive"),
        (["clear", "global"], "there is no limit"),
        (["resume", "global"], "key:QUEUE/KEY"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_the_way_out(words: list[str], hint: str) -> None:
    code, text = run("limits", *words)
    assert code == 1
    assert hint in text


@pytest.mark.parametrize("command", ["list", "set", "clear", "resume"])
def test_every_command_shows_an_example(command: str) -> None:
    code, text = run("limits", command, "--help")
    assert code == 0
    assert f"Example: tandem limits {command}" in text
