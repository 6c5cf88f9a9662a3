"""What each parser must do with any bytes: refuse with its own error, or answer something that holds. One per function.

A target raises anything else when it finds a bug. Its seeds are inputs from which a fuzzer starts.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import typer

from app.api.body import Body, validate
from app.api.cursor import Cursors
from app.api.keys import split
from app.api.strict_json import canonical, check_depth, parse
from app.cli.values import parse_age, parse_rate
from app.client.encoding import encode_json
from app.config import ConversationSettings, DatabaseSettings
from app.database.connect import connection_string
from app.domains.conversations import service
from app.domains.conversations.language import detect, words_of
from app.domains.conversations.schemas import EXAMPLE, EndConversation
from app.domains.conversations.scoring import DEFAULT_WEIGHTS, score_conversation
from app.domains.conversations.sentiment import feel
from app.domains.conversations.tokens import read_sentences
from app.errors import ConfigurationError, InvalidInput
from app.queue.cron import check_expression, ticks
from app.queue.stored_json import read_mapping, read_stored

Test = Callable[[bytes], None]
CURSORS: Final = Cursors("the key of the fuzzer's cursors")
EXAMPLE_BODY: Final = json.dumps(EXAMPLE).encode()
NOT_JSON: Final = {
    "malformed-json",
    "duplicate-key",
    "number-out-of-range",
    "invalid-unicode",
    "nul-character",
    "too-deep",
}


class BugError(Exception):
    """A parser let something through, or changed it."""


@dataclass(frozen=True)
class Target:
    """A parser's test, and where to begin."""

    test: Test
    seeds: Sequence[bytes]


def check(holds: bool, what: str) -> None:
    """Raise BugError unless it holds."""
    if not holds:
        raise BugError(what)


def strict_json(raw: bytes) -> None:
    """A document that reads back the same, or a refusal by one of the known codes."""
    try:
        document = parse(raw)
    except InvalidInput as refused:
        check(refused.code in NOT_JSON, refused.code)
        return
    text = canonical(document)
    check("\0" not in text and "\\u0000" not in text.replace("\\\\", ""), "a NUL went through")
    text.encode()  # no surrogate went through
    check(parse(text.encode()) == document == json.loads(raw), "read in two ways")


def cursor(raw: bytes) -> None:
    """Only what we made is a cursor."""
    text = raw.decode("utf-8", "replace")
    try:
        place = CURSORS.read(text, "jobs")
    except InvalidInput as refused:
        check(refused.code == "bad-cursor", refused.code)
        return
    check(CURSORS.make(place, "jobs") == text, "a cursor that we did not make")


def conversation(raw: bytes) -> None:
    """A body is refused, or its values can be stored and its log scored."""
    try:
        document = parse(raw)
        values = service.prepare(
            validate(EndConversation, Body(raw, document)), document, ConversationSettings()
        )
    except InvalidInput as refused:
        check("\0" not in refused.message, refused.message)
        return
    check(values["start_time"] <= values["end_time"], "it ends before it starts")
    check(len(values["conversation_id"]) <= 128, "an id over its limit")
    _score(json.loads(values["conversation_log"]), values["bot_type"])


def scoring(raw: bytes) -> None:
    """Any log that JSON can hold has a score within its bounds."""
    try:
        document = parse(raw)
    except InvalidInput:
        document = [{"speaker": "user", "text": raw.decode("utf-8", "replace")}]
    _score(document if isinstance(document, list) else [document], "TALK")


def _score(log: list[Any], bot_type: str) -> None:
    scored = score_conversation(log, bot_type=bot_type, start_time=datetime(2025, 1, 1, tzinfo=UTC))
    low, high = DEFAULT_WEIGHTS.lowest, DEFAULT_WEIGHTS.highest
    check(low <= scored.friendship_score_change <= high, "a score out of bounds")
    check(-1 <= scored.sentiment <= 1, "a sentiment out of bounds")


def text(raw: bytes) -> None:
    """Any text has sentences, a language and a feeling."""
    sentences = read_sentences(raw.decode("utf-8", "replace"))
    language = detect(words_of(sentences))
    feel(sentences, language)


def encoding(raw: bytes) -> None:
    """What the client sends is what it was given, and nothing that PostgreSQL refuses."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        # As latin-1 every byte is a character, NUL and control characters among them; "x" stands for a surrogate.
        value = {"text": raw.decode("latin-1").replace("x", "\ud800")}
    try:
        sent = encode_json(value, limit=4096, what="payload")
    except InvalidInput:
        return
    sent.encode()
    check(json.loads(sent) == value, "changed on its way")
    check("\\u0000" not in sent.replace("\\\\", ""), "a NUL went through")


def stored_json(raw: bytes) -> None:
    """Whatever is stored can be read and written again."""
    try:
        check_depth(raw)
        stored = json.dumps(json.loads(raw))
    except (InvalidInput, ValueError, RecursionError):
        stored = raw.decode("utf-8", "replace")
    json.dumps(read_stored(stored), allow_nan=False)
    read_mapping(stored)


def command_line(raw: bytes) -> None:
    """Ages and rates are positive, or refused."""
    given = raw.decode("utf-8", "replace")
    for read in (parse_age, parse_rate):
        try:
            check(bool(read(given)) or given.startswith("0"), given)
        except typer.BadParameter:
            continue


def database_url(raw: bytes) -> None:
    """Any address becomes a connection string, or is refused without saying its password."""
    given = raw.decode("utf-8", "replace").replace("\0", "")
    try:
        connection_string(given, name="fuzzer", settings=DatabaseSettings())
    except (ConfigurationError, InvalidInput) as refused:
        check("s3cr3t" not in str(refused), "a password in a message")


def cron(raw: bytes) -> None:
    """An expression is refused, or its ticks grow."""
    expression, _, zone = raw.decode("utf-8", "replace").partition("|")
    try:
        check_expression(expression, zone or "UTC")
        found = list(islice(ticks(expression, zone or "UTC", datetime(2026, 1, 1, tzinfo=UTC)), 5))
    except InvalidInput as refused:
        check(refused.code in ("invalid-cron", "invalid-timezone"), refused.code)
        return
    check(found == sorted(set(found)), "ticks out of order")


def credential(raw: bytes) -> None:
    """A credential has the form of a key, or none."""
    found = split(raw.decode("utf-8", "replace"))
    check(found is None or bool(found[0] and len(found[1]) == 32), "half a key")


TARGETS: Final[dict[str, Target]] = {
    "strict_json": Target(
        strict_json, [EXAMPLE_BODY, b'{"a": [1, -2.5e3, "\\ud83d\\ude00", null, true]}', b'"\\u0000"']
    ),
    "cursor": Target(cursor, [CURSORS.make(17, "jobs").encode(), b"A" * 32]),
    "conversation": Target(conversation, [EXAMPLE_BODY]),
    "scoring": Target(scoring, [json.dumps(EXAMPLE["conversation_log"]).encode(), b"I love you!", b"[]"]),
    "text": Target(text, ["Bạn có khỏe không? Tôi rất vui! I'm not happy :( 😀".encode(), b"no, not. never?!"]),
    "encoding": Target(encoding, [b'{"a": ["x", 1, 2.5, null]}', b'"\\u0000"', b"NaN"]),
    "stored_json": Target(stored_json, [b"9" * 5000, b"[" * 300 + b"]" * 300, b'{"max_attempts": 5}']),
    "command_line": Target(command_line, [b"90s", b"15m", b"10/s", b"0.5/h"]),
    "database_url": Target(
        database_url, [b"postgresql://u:s3cr3t@h:5432/db?sslmode=verify-full", b"host=/tmp dbname=x password=s3cr3t"]
    ),
    "cron": Target(cron, [b"*/5 2 * * 1-5|Europe/Berlin", b"0 0 30 2 *|UTC", b"@daily|"]),
    "credential": Target(credential, [b"tdm_0123456789abcdef_secret", b"Bearer x.y.z"]),
}  # fmt: skip
