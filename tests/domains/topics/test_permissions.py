"""The whole table of roles and operations, over HTTP with real keys; a denial is written down."""

from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from app.api.auth import Guard
from app.api.principals import Principal
from app.config import ApiSettings, Settings
from app.domains.topics.permissions import EVERY_TOPIC, Operation, may
from app.main import create_app
from tests.support import topics
from tests.support.topics import GROUP, TOPIC

TABLE: dict[str, set[Operation]] = {
    "user": set(),
    "monitor": set(),
    "producer": {Operation.PUBLISH},
    "system": {Operation.PUBLISH, Operation.CONSUME, Operation.READ},
    "auditor": {Operation.READ, Operation.READ_DEAD},
    "operator": {
        Operation.READ,
        Operation.READ_DEAD,
        Operation.RETRY_DEAD,
        Operation.MANAGE,
        Operation.REPLAY,
    },
    "admin": set(Operation),
}
GRANTED = {(name, TOPIC) for name in ("publish", "consume")}


@pytest.mark.parametrize("role", TABLE)
@pytest.mark.parametrize("operation", Operation)
def test_every_role_may_do_what_the_table_says_and_nothing_else(role: str, operation: Operation) -> None:
    who = Principal(subject="p", roles=frozenset({role}))
    assert may(who, operation, TOPIC, GRANTED) == (operation in TABLE[role])
    assert not may(Principal(subject="p", roles=frozenset()), operation, TOPIC, GRANTED)


@pytest.mark.parametrize("operation", [Operation.PUBLISH, Operation.CONSUME])
def test_a_program_needs_a_grant_for_the_topic(operation: Operation) -> None:
    program = Principal(subject="camera-7", roles=frozenset({"system"}))
    name = operation.partition(":")[2]
    assert not may(program, operation, TOPIC, ())
    assert not may(program, operation, TOPIC, {(name, "audit.logs")})
    assert not may(program, operation, None, GRANTED)
    other = "consume" if name == "publish" else "publish"
    assert not may(program, operation, TOPIC, {(other, TOPIC)})
    assert may(program, operation, TOPIC, {(name, EVERY_TOPIC)})


@pytest.fixture
async def api(db_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """The API where everybody is who the header says, the rest of the edge as it is."""

    async def identify(_: Guard, connection: object) -> Principal:
        role = connection.headers.get("x-role", "user")  # type: ignore[attr-defined]
        return Principal(subject="camera-7", roles=frozenset({role}))

    monkeypatch.setattr(Guard, "identify", identify)
    topics.make_topic(db_url)
    app = create_app(Settings(api=ApiSettings()), url=db_url)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as client,
    ):
        yield client


GROUP_AT = f"/v1/topics/{TOPIC}/groups/{GROUP}"
CALLS: list[tuple[str, str, object, Operation]] = [
    ("POST", "/api/v1/queue/publish", {"topic": TOPIC, "message": 1}, Operation.PUBLISH),
    ("GET", "/api/v1/queue/status", None, Operation.READ),
    ("POST", "/api/v1/queue/dlq/retry", {"topic": TOPIC}, Operation.RETRY_DEAD),
    ("POST", "/v1/topics", {"topic": "other"}, Operation.MANAGE),
    ("GET", "/v1/topics", None, Operation.READ),
    ("GET", "/v1/topics/dlq/messages", None, Operation.READ_DEAD),
    ("GET", f"/v1/topics/{TOPIC}", None, Operation.READ),
    ("POST", f"/v1/topics/{TOPIC}/messages", {"messages": [{"message": 1}]}, Operation.PUBLISH),
    ("POST", f"/v1/topics/{TOPIC}/groups", {"group": "g"}, Operation.MANAGE),
    ("GET", GROUP_AT, None, Operation.READ),
    ("POST", f"{GROUP_AT}/pause", None, Operation.MANAGE),
    ("POST", f"{GROUP_AT}/resume", None, Operation.MANAGE),
    ("POST", f"{GROUP_AT}/replay", {"start": {"at": "now"}}, Operation.REPLAY),
    ("POST", f"{GROUP_AT}/consume", {}, Operation.CONSUME),
    ("POST", f"{GROUP_AT}/ack", {"receipts": ["1-1"]}, Operation.CONSUME),
    ("POST", f"{GROUP_AT}/nack", {"receipts": ["1-1"]}, Operation.CONSUME),
    ("POST", f"{GROUP_AT}/extend", {"receipts": ["1-1"]}, Operation.CONSUME),
]


async def test_every_endpoint_asks_for_its_permission_and_denials_are_written_down(
    api: httpx.AsyncClient, db_url: str
) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        for operation, topic in GRANTED:
            connection.execute(
                "INSERT INTO tandem.topic_grant (principal, operation, topic) VALUES ('camera-7', %s, %s)",
                (operation, topic),
            )
    denied = 0
    for role, allowed in TABLE.items():
        for method, path, body, operation in CALLS:
            response = await api.request(method, path, json=body, headers={"x-role": role})
            if operation in allowed:
                assert response.status_code in (200, 202), (role, path, response.text)
            else:
                denied += 1
                assert response.status_code == 403, (role, path, response.text)
                assert response.json()["type"] == "urn:tandem:problem:forbidden"
    query = (
        "SELECT count(*) AS n, count(DISTINCT detail ->> 'operation') AS kinds"
        " FROM tandem.audit_entry WHERE action = 'denied'"
    )
    [found] = topics.rows(db_url, query)
    assert (found.n, found.kinds) == (denied, len(Operation))


async def test_without_a_grant_a_program_is_refused_and_that_is_written_down(
    api: httpx.AsyncClient, db_url: str
) -> None:
    body = {"topic": TOPIC, "message": 1}
    response = await api.post("/api/v1/queue/publish", json=body, headers={"x-role": "system"})
    assert response.status_code == 403
    assert response.json()["status"] == "error"
    query = "SELECT actor, topic, detail FROM tandem.audit_entry WHERE action = 'denied'"
    [found] = topics.rows(db_url, query)
    assert (found.actor, found.topic, found.detail["operation"]) == ("camera-7", TOPIC, "topics:publish")
