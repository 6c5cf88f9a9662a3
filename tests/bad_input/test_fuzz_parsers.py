"""The fuzzers' targets hold for their seeds and for simple damage to them; what was found once stays found."""

import importlib.util
import json
import random

import pytest

from app.queue import stored_json
from scripts.fuzz import parsers, targets
from scripts.fuzz.targets import TARGETS, BugError

FOUND: list[tuple[str, bytes]] = [
    ("stored_json", b"NaN"),
    ("stored_json", b'{"x": -Infinity}'),
    ("stored_json", b'{"x": ' + b"9" * 5000 + b"}"),
    ("stored_json", b"[" * 60 + b"9" * 400 + b".5" + b"]" * 60),
    ("encoding", b"\xed\xff!"),
    ("encoding", b"x\0x"),
]
RUNS = 150


def damaged(seed: bytes, chance: random.Random) -> bytes:
    """A seed with a few bytes changed, doubled, cut out or taken from elsewhere."""
    raw = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        piece = bytes(
            chance.choices(b'"\\{}[]:,0123456789eE+-.u\0\xff\xed\xa0/|*@ \n', k=chance.randint(1, 5))
        )
        raw[at : at + chance.choice([0, 0, 1, 4])] = chance.choice([piece, bytes(raw[at : at + 8]), b""])
    return bytes(raw)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_seeds_break_no_parser(name: str) -> None:
    chance = random.Random(20261122)
    target = TARGETS[name]
    for seed in target.seeds:
        target.test(seed)
        for _ in range(RUNS):
            target.test(damaged(seed, chance))


@pytest.mark.parametrize(("name", "raw"), FOUND)
def test_what_was_found_stays_fixed(name: str, raw: bytes) -> None:
    TARGETS[name].test(raw)


def test_a_parser_that_lets_something_through_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "parse", lambda raw: json.loads(raw.decode("utf-8", "replace")))
    with pytest.raises(BugError):
        TARGETS["strict_json"].test(b'"\\u0000"')
    monkeypatch.setattr(targets, "read_stored", lambda stored: float("nan"))
    assert stored_json.read_stored("NaN") == "NaN"
    with pytest.raises(ValueError, match="not JSON compliant"):
        TARGETS["stored_json"].test(b"NaN")


def test_the_command_runs_its_fuzzers(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed for this platform; the damaged seeds above were tried")
    arguments = ["--seconds", "5", "--runs", "3000", "--seed", "7", "--json", "strict_json", "cron"]
    assert parsers.main(arguments) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: one["runs"] >= 100 for name, one in report["targets"].items()} == {
        "strict_json": True,
        "cron": True,
    }
