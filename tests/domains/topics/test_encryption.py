"""Encrypted payloads: nobody reads them in the database, keys rotate, and a deleted key shreds what it sealed."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from app.client import publish
from app.config import Settings, TopicSettings, load_settings
from app.errors import ConfigurationError
from app.queue.retry import HandlerError
from app.queue.sealing import SEALED, Keyring, load_keyring
from tests.support import topics
from tests.support.conversations import serving
from tests.support.topics import GROUP, TOPIC

OLD, NEW = os.urandom(32), os.urandom(32)


def ring(current: str = "old", **keys: bytes) -> Keyring:
    return Keyring({TOPIC: keys or {"old": OLD}}, {TOPIC: current})


def key_file(folder: Path, **keys: bytes) -> Path:
    file = folder / "keys.json"
    named = {name: base64.b64encode(key).decode() for name, key in keys.items()}
    file.write_text(json.dumps({TOPIC: {"current": next(iter(named)), "keys": named}}))
    return file


@pytest.mark.parametrize("body", [None, {}, "x", 1.5, {"n": [1, {"ư": "☃"}]}])
def test_what_is_sealed_is_opened_and_says_nothing(body: Any) -> None:
    sealed = ring().seal(TOPIC, body)
    assert set(sealed) == {SEALED}
    assert ring().unseal(TOPIC, sealed) == body
    assert ring().seal(TOPIC, body) != sealed
    assert ring().seal(TOPIC, body, "id") == ring().seal(TOPIC, body, "id")
    assert ring().seal(TOPIC, body, "id") != ring().seal(TOPIC, body, "other")


def test_other_topics_are_left_alone_and_cannot_open_it() -> None:
    assert ring().seal("other", {"n": 1}) == {"n": 1}
    assert ring().unseal("other", {"n": 1}) == {"n": 1}
    moved = Keyring({"other": {"old": OLD}}, {"other": "old"})
    with pytest.raises(HandlerError, match="changed"):
        moved.unseal("other", ring().seal(TOPIC, {"n": 1}))


def test_a_rotated_key_reads_old_messages_until_it_is_deleted() -> None:
    before = ring().seal(TOPIC, {"n": 1})
    both = ring("new", new=NEW, old=OLD)
    assert both.unseal(TOPIC, before) == {"n": 1}
    assert both.seal(TOPIC, 1)[SEALED]["key"] == "new"
    with pytest.raises(HandlerError) as shredded:
        ring("new", new=NEW).unseal(TOPIC, before)
    assert (shredded.value.code, shredded.value.error_class) == ("message-shredded", "permanent")


def test_a_changed_message_is_not_opened() -> None:
    sealed = ring().seal(TOPIC, {"n": 1})
    raw = bytearray(base64.b64decode(sealed[SEALED]["data"]))
    raw[-1] ^= 1
    sealed[SEALED]["data"] = base64.b64encode(raw).decode()
    with pytest.raises(HandlerError, match="changed"):
        ring().unseal(TOPIC, sealed)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"t": {}}', '{"t": {"current": "a", "keys": {"a": "c2hvcnQ="}}}']
)
def test_a_key_file_that_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError):
        load_keyring(file)


async def test_over_http_the_database_holds_ciphertext_only(db_url: str, tmp_path: Path) -> None:
    topics.make_topic(db_url, encrypted=True)
    settings = Settings(topics=TopicSettings(key_file=key_file(tmp_path, old=OLD)))
    body = {"topic": TOPIC, "message": {"secret": "at dawn"}}
    async with serving(db_url, settings) as client:
        for _ in range(2):  # the repeat is the same message, although it is encrypted again
            told = await client.post("/api/v1/queue/publish", json=body, headers={"Idempotency-Key": "k"})
            assert told.status_code == 200, told.text
        taken = await client.post(f"/v1/topics/{TOPIC}/groups/{GROUP}/consume", json={})
    assert [one["message"] for one in taken.json()["messages"]] == [{"secret": "at dawn"}]
    dump = topics.rows(
        db_url, "SELECT m::text AS log, j::text AS job FROM tandem.message AS m, tandem.job AS j"
    )
    assert "dawn" not in dump[0].log + dump[0].job


async def test_over_http_without_the_key_it_is_said_what_is_missing(db_url: str) -> None:
    topics.make_topic(db_url, encrypted=True)
    async with serving(db_url, Settings()) as client:
        told = await client.post("/api/v1/queue/publish", json={"topic": TOPIC, "message": None})
    body = told.json()
    assert (told.status_code, body["type"], body["status"]) == (
        422,
        "urn:tandem:problem:not-encrypted",
        "error",
    )


def test_an_encrypted_topic_takes_nothing_plain(db_url: str) -> None:
    topics.make_topic(db_url, encrypted=True)
    with psycopg.connect(db_url) as connection:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="encrypted"):
            publish(connection, TOPIC, {"n": 1})
        connection.rollback()
        publish(connection, TOPIC, ring().seal(TOPIC, {"n": 1}))
    assert topics.deliveries(db_url).total() == 1


def test_keys_come_from_the_environment_too_but_not_from_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps({TOPIC: {"current": "a", "keys": {"a": base64.b64encode(b"k" * 32).decode()}}})
    monkeypatch.setenv("TANDEM_TOPICS__KEYS", text)
    told = load_settings().topics
    ring = load_keyring(told.key_file, told.keys)
    assert ring.unseal(TOPIC, ring.seal(TOPIC, {"n": 1})) == {"n": 1}
    assert ring.seal(TOPIC, {"n": 1}) != {"n": 1}
    assert "kkkk" not in repr(told) and text not in repr(told)
    with pytest.raises(ConfigurationError, match="either"):
        load_keyring(tmp_path / "keys.json", told.keys)
    with pytest.raises(ConfigurationError, match="fit"):
        load_keyring(None, SecretStr("{"))
