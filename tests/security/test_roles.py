"""Least privilege: the catalogue says what sql/roles.toml says, each role can do its work, and nothing else."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from app.client import Job, Message, enqueue, enqueue_copy, publish_many
from app.config import CHECKOUT
from app.database import migrate, roles
from app.database.connect import connect, connect_sync
from app.database.engine import make_engine, make_session_factory
from app.errors import ConfigurationError
from app.queue import admin
from tests.queue.test_statements import QUERIES, name_of, prepared
from tests.support import databases, servers
from tests.support.command_line import facts
from tests.support.conversations import END, body, event, registered, serving, working
from tests.support.identities import bearer, guarded_settings, make_key
from tests.support.waiting import eventually_async

LOGINS = (roles.MIGRATOR, *roles.policy())
Url = Callable[[str], str]


@pytest.fixture(scope="module")
def own_server(pytestconfig: pytest.Config) -> Iterator[tuple[str, str]]:
    """A server of these tests' own, and its template: roles belong to a server, and others must not meet them."""
    binaries = pytestconfig.getoption("--pg-bin")
    with (
        servers.open_directory() as place,
        servers.server(place, servers.CARELESS, binaries=Path(binaries) if binaries else None) as (_, url),
    ):
        yield url, databases.make_template(url)


@pytest.fixture
def arranged(own_server: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Url]:
    """A database whose roles are made; answers the address for each role's login, and for "" the superuser's."""
    with databases.clone(*own_server) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        facts("db", "roles")
        with psycopg.connect(url, autocommit=True) as connection:
            for role in LOGINS:
                if not connection.execute(
                    "SELECT 1 FROM pg_roles WHERE rolname = %s", (f"{role}_login",)
                ).fetchone():
                    connection.execute(
                        sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(
                            sql.Identifier(f"{role}_login"), sql.Identifier(role)
                        )
                    )
        yield lambda role: url.replace("//tandem@", f"//{role}_login@") if role else url


def matrix(url: str) -> tuple[set[roles.Grant], set[roles.Grant]]:
    """What should be granted, and what is."""
    with connect_sync(url, name="test") as connection:
        return roles.expected(connection), roles.actual(connection)


def denied(url: str, *statements: str) -> None:
    """Every statement must fail for want of a right."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_the_catalogue_says_what_the_policy_says(arranged: Url) -> None:
    wanted, found = matrix(arranged(""))
    assert found == wanted
    assert len(wanted) > 200
    assert ("tandem.enqueue", "tandem_producer", "EXECUTE") in wanted
    assert not {grant for grant in found if grant[1] == "PUBLIC"}


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT SELECT ON tandem.job TO tandem_producer",
        "GRANT DELETE ON customer_audit TO tandem_worker",
        "GRANT UPDATE (secret_hash) ON tandem.api_key TO tandem_api",
        "GRANT EXECUTE ON FUNCTION tandem.drop_partition TO PUBLIC",
        "REVOKE SELECT ON tandem.ready FROM tandem_worker",
        "CREATE FUNCTION tandem.later() RETURNS int LANGUAGE sql RETURN 1",
    ],
)
def test_any_other_grant_is_noticed_and_put_right(arranged: Url, statement: str) -> None:
    with psycopg.connect(arranged(""), autocommit=True) as connection:
        connection.execute(statement.encode())
    wanted, found = matrix(arranged(""))
    assert found != wanted
    assert facts("db", "roles")["made"] == []
    wanted, found = matrix(arranged(""))
    assert found == wanted


def test_no_role_is_more_than_its_grants(arranged: Url) -> None:
    query = (
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)"
        " AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolcanlogin)"
    )
    names = [roles.OWNER, *LOGINS]
    with connect_sync(arranged(""), name="test") as connection:
        assert connection.execute(query, (names,)).fetchall() == []
        connection.execute("SET LOCAL role = 'tandem_owner'")
        assert {item.owner for item in roles.items(connection)} == {roles.OWNER}
    with psycopg.connect(arranged("")) as connection:  # rolled back
        connection.execute("ALTER ROLE tandem_worker BYPASSRLS")
        assert connection.execute(query, (names,)).fetchall() == [("tandem_worker",)]


# --- what each role's statements may do -----------------------------------------------------------------------------


def allowed(url: str) -> set[str]:
    """The statement files that this login may run; EXPLAIN checks the rights without running anything."""
    found = set()
    with psycopg.connect(url) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for path in QUERIES:
            text, types = prepared(path.read_text())
            count = 1 + max((number for number in range(40) if f"${number}" in text), default=0)
            declared = f"({', '.join(types)})" if types else ""
            nulls = f"({', '.join(['NULL'] * (count - 1))})" if count > 1 else ""
            with connection.transaction(force_rollback=True):
                try:
                    connection.execute(
                        f"PREPARE one{declared} AS {text}".encode()
                    )  # layout: built-sql - our own files
                    connection.execute(
                        f"EXPLAIN EXECUTE one{nulls}".encode()
                    )  # layout: built-sql - NULLs alone
                    found.add(name_of(path))
                except psycopg.errors.InsufficientPrivilege:
                    pass
            connection.execute("DEALLOCATE ALL")
    return found


def area(*names: str) -> set[str]:
    """Every statement of these areas."""
    return {name_of(path) for path in QUERIES if path.parent.name in names}


QUEUE = (
    "claim",
    "finish",
    "floors",
    "leader",
    "lease",
    "partitions",
    "retry",
    "schedule",
    "wake",
    "worker",
    "doctor",
)


def test_a_worker_may_run_every_statement_of_the_queue_but_no_key(arranged: Url) -> None:
    found = allowed(arranged("tandem_worker"))
    assert area(*QUEUE, "conversations") - found == set()
    assert found & area("auth") == set()


def test_an_operator_may_do_what_the_command_line_does_and_not_what_workers_do(arranged: Url) -> None:
    found = allowed(arranged("tandem_operator"))
    assert area("admin", "doctor") - found == set()
    assert not found & {
        "leader/acquire_leadership",
        "worker/register_worker",
        "partitions/drop_partition",
        "auth/create_key",
    }


def test_the_api_checks_keys_and_makes_none(arranged: Url) -> None:
    found = allowed(arranged("tandem_api"))
    assert {*area("admin"), "auth/find_key", "conversations/end_conversation"} - found == set()
    assert not found & {
        "auth/create_key",
        "auth/revoke_key",
        "partitions/drop_partition",
        "leader/acquire_leadership",
    }


def test_an_auditor_reads_everything_but_the_hashes(arranged: Url) -> None:
    found = allowed(arranged("tandem_auditor"))
    assert {"admin/list_jobs", "admin/explain_job", "admin/list_dead_letters", "auth/list_keys"} <= found
    assert not found & {"admin/redrive_jobs", "admin/pause_queue", "auth/find_key", "claim/claim_jobs"}
    denied(
        arranged("tandem_auditor"),
        "SELECT secret_hash FROM tandem.api_key",
        "DELETE FROM tandem.job",
        "SELECT tandem.enqueue('x')",
    )


def test_a_producer_runs_no_statement_on_a_table(arranged: Url) -> None:
    with connect_sync(arranged(""), name="test") as connection:
        tables = {
            item.name.removeprefix("public.") for item in roles.items(connection) if item.kind == "TABLE"
        }
    found = allowed(arranged("tandem_producer"))
    texts = {name_of(path): path.read_text() for path in QUERIES if name_of(path) in found}
    assert {"wake/wake_lanes", "admin/read_clock"} <= found
    assert [
        (name, table)
        for name, text in texts.items()
        for table in tables
        if re.search(rf"(?m)^(?!--).*\b(FROM|JOIN|INTO|UPDATE)\s+{re.escape(table)}\b", text)
    ] == []


def test_a_producer_enqueues_through_the_functions_and_does_nothing_else(arranged: Url) -> None:
    url = arranged("tandem_producer")
    with psycopg.connect(url, autocommit=True) as connection:
        assert enqueue(connection, Job("mail", {"to": "ann"})) is not None
        assert len(enqueue_copy(connection, [Job("mail", {}), Job("mail", {})])) == 2
    denied(
        url,
        "SELECT FROM tandem.job",
        "SELECT FROM tandem.job_status",
        "INSERT INTO tandem.wake_request VALUES (1)",
        "SELECT nextval('tandem.job_id')",
        "SELECT tandem.explain(1)",
        "SELECT tandem.drop_partition(0, '{}')",
        "CREATE TABLE tandem.mine (n int)",
        "CREATE TABLE public.mine (n int)",
        "CREATE TEMP TABLE mine (n int)",
        "SET ROLE tandem_owner",
        "SET ROLE tandem_worker",
        "TRUNCATE customer_audit",
    )
    with psycopg.connect(arranged("")) as connection:
        assert connection.execute("SELECT count(*) FROM tandem.job").fetchone() == (3,)


def test_a_system_publishes_where_its_login_has_a_grant_and_does_nothing_else(arranged: Url) -> None:
    url = arranged("tandem_system")
    with psycopg.connect(arranged(""), autocommit=True) as connection:
        for topic in ("mine", "others"):
            connection.execute("SELECT tandem.create_topic(%s)", (topic,))
        connection.execute(  # an API key of that name, or the right to consume, is something else
            "INSERT INTO tandem.topic_grant (principal, operation, topic)"
            " VALUES ('postgres:tandem_system_login', 'publish', 'mine'),"
            " ('postgres:tandem_system_login', 'consume', 'others'), ('tandem_system_login', 'publish', 'others')"
        )
        connection.execute("SELECT tandem.publish('others', '{}')")  # a superuser needs no grant
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT tandem.publish('mine', '{}')")
        assert len(publish_many(connection, "mine", [Message({}), Message({})])) == 2
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not publish to topic"):
            connection.execute("SELECT tandem.publish('others', '{}')")
        connection.execute("SET ROLE tandem_system")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not publish to topic"):
            publish_many(connection, "others", [Message({})])
    denied(
        url,
        "SELECT FROM tandem.message",
        "SELECT FROM tandem.topic_grant",
        "INSERT INTO tandem.topic_grant (principal, operation, topic) VALUES ('x', 'publish', '*')",
        "SELECT tandem.publish_one('mine', 1, 0, '{}', now(), '{}', NULL, NULL, 1::smallint, 'commit')",
        "SELECT tandem.create_topic('x')",
        "SELECT tandem.enqueue('x')",
    )
    with psycopg.connect(arranged(""), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM tandem.message").fetchone() == (4,)
        connection.execute(
            "INSERT INTO tandem.topic_grant (principal, operation, topic)"
            " VALUES ('postgres:tandem_system_login', 'publish', '*')"
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT tandem.publish('others', '{}')")


@pytest.mark.parametrize("role", list(roles.policy()))
def test_nobody_empties_or_rewrites_what_is_kept_for_audit(arranged: Url, role: str) -> None:
    kept = (
        "customer_audit",
        "customer_usage",
        "customer_price_lists",
        "tandem.audit_entry",
        "tandem.audit_chain",
    )
    statements = [f"{verb} {name}" for name in kept for verb in ("TRUNCATE", "DELETE FROM")]
    denied(
        arranged(role), *statements, "UPDATE customer_audit SET target = target", "DROP TABLE customer_audit"
    )


# --- the processes really run as their roles ----------------------------------------------------------


async def test_a_conversation_goes_through_api_and_worker_under_their_own_roles(arranged: Url) -> None:
    key = await make_key(arranged(""), "system", "operator", "monitor")
    settings = guarded_settings()
    async with (
        serving(arranged("tandem_api"), settings) as client,
        working(arranged("tandem_worker"), sweep=True),
    ):
        client.headers.update(bearer(key.clear))
        made = await client.post(END, json=body())
        assert made.status_code == 202, made.text
        await eventually_async(lambda: event(arranged("")).status == "PROCESSED", timeout=30)
        assert (await client.get("/v1/jobs")).json()["jobs"][0]["status"] == "SUCCEEDED"
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        query = (
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'tandem %%' AND application_name <> 'tandem test'"
        )
        with connect_sync(arranged(""), name="test") as connection:
            names = {row[0] for row in connection.execute(query, ())}
    assert names == {"tandem_api_login", "tandem_worker_login"}


async def test_the_sweeper_makes_and_drops_partitions_that_are_not_its_own(arranged: Url) -> None:
    async with await connect(arranged("tandem_worker"), name="test") as connection:
        assert await (await connection.execute("SELECT tandem.add_partition(7)")).fetchone() == (True,)
        assert (
            await (await connection.execute("SELECT tandem.drop_partition(7, '{}')")).fetchone() is not None
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("DROP TABLE tandem.job_kept")


async def test_an_operator_redrives_and_pauses(arranged: Url) -> None:
    with psycopg.connect(arranged("")) as setup:
        setup.execute("SELECT tandem.enqueue('mail')")
        setup.execute(
            "WITH gone AS (DELETE FROM tandem.ready RETURNING job_id)"
            " INSERT INTO tandem.done (job_id, finished_at, attempt, outcome)"
            " SELECT job_id, clock_timestamp(), 1, 'DEAD' FROM gone"
        )
        setup.execute("INSERT INTO tandem.queue (name) VALUES ('default')")
    engine = make_engine(arranged("tandem_operator"), name="test")
    try:
        registry = registered(make_session_factory(engine))
        async with await connect(arranged("tandem_operator"), name="test") as connection:
            [row] = await admin.list_jobs(connection, status="DEAD")
            await admin.redrive_job(connection, registry, row["job_id"])
            await admin.pause_queue(connection, "default", by="ann")
            [row] = await admin.list_jobs(connection)
            assert row["status"] == "PENDING"
    finally:
        await engine.dispose()


def test_a_migrator_changes_the_schema_and_what_it_makes_is_the_owners(
    arranged: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = arranged(roles.MIGRATOR)
    migrate.downgrade(url, "0006")
    monkeypatch.setenv("DATABASE_URL", url)
    assert facts("db", "upgrade")["changed"] is True
    wanted, found = matrix(arranged(""))
    assert found == wanted
    with connect_sync(arranged(""), name="test") as connection:
        assert {item.owner for item in roles.items(connection)} == {roles.OWNER}


def test_who_may_not_arrange_roles_is_told_who_may(arranged: Url) -> None:
    with (
        connect_sync(arranged("tandem_operator"), name="test", autocommit=False) as connection,
        pytest.raises(ConfigurationError, match="as a superuser the first time"),
    ):
        roles.apply(connection)


# --- functions that run with their owner's rights ------------------------------------------------------

HIJACKABLE = """
SELECT p.proname FROM pg_proc AS p
WHERE p.pronamespace IN ('tandem'::regnamespace, 'public'::regnamespace) AND p.prosecdef
  AND (coalesce(p.proconfig[1], '') NOT IN ('search_path=pg_catalog, pg_temp')
       OR NOT pg_get_userbyid(p.proowner) = 'tandem_owner'
       OR has_function_privilege('public', p.oid, 'EXECUTE'))
"""


def test_no_function_with_its_owners_rights_can_be_hijacked(arranged: Url) -> None:
    with psycopg.connect(arranged("")) as connection:
        assert connection.execute(HIJACKABLE).fetchall() == []
        counted = connection.execute(
            "SELECT count(*) FROM pg_proc WHERE prosecdef AND pronamespace = 'tandem'::regnamespace"
        ).fetchone()
        assert counted is not None
        assert counted[0] >= 8
        for number, change in enumerate(
            [
                "ALTER FUNCTION tandem.enqueue_copied RESET search_path",
                "ALTER FUNCTION tandem.enqueue_copied SET search_path = public, pg_catalog",
                "ALTER FUNCTION tandem.enqueue_copied OWNER TO tandem",
                "GRANT EXECUTE ON FUNCTION tandem.enqueue_copied TO PUBLIC",
            ]
        ):
            with connection.transaction(force_rollback=True):
                connection.execute(change.encode())
                assert connection.execute(HIJACKABLE).fetchall() == [("enqueue_copied",)], number


def test_objects_of_the_callers_cannot_stand_in_for_ours(arranged: Url) -> None:
    """What search_path guards: a producer with a schema of its own before ours reaches nothing with it."""
    with psycopg.connect(arranged(""), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA mine AUTHORIZATION tandem_producer")
    with psycopg.connect(arranged("tandem_producer"), autocommit=True) as connection:
        connection.execute("SET search_path = mine, pg_catalog")
        connection.execute(
            "CREATE FUNCTION mine.octet_length(text) RETURNS int LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'hijacked as %', current_user; END $$"
        )
        with pytest.raises(psycopg.errors.RaiseException, match="hijacked as tandem_producer_login"):
            connection.execute("SELECT octet_length('x'::text)")
        assert connection.execute("SELECT tandem.enqueue('mail')").fetchone() is not None


def test_the_policy_names_only_what_there_is(arranged: Url) -> None:
    with connect_sync(arranged(""), name="test") as connection:
        names = {item.name for item in roles.items(connection)}
        one = next(item for item in roles.items(connection) if item.name == "tandem.job")
    for role, rules in roles.policy().items():
        for name in [
            *rules.get("functions", []),
            *rules.get("no_functions", []),
            *rules.get("relations", {}),
        ]:
            assert "*" in name or name in names, (role, name)
        assert (CHECKOUT / "docs" / "roles.md").read_text().count(f"`{role}`") >= 1
    assert list(roles.verbs("tandem_worker", replace(one, name="tandem.job_7"))) == []


def test_two_may_arrange_the_roles_at_once(arranged: Url) -> None:
    def arrange() -> None:
        with connect_sync(arranged(""), name="test", autocommit=False) as connection:
            roles.apply(connection)
            connection.commit()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(arrange) for _ in range(4)]:
            done.result(60)
    wanted, found = matrix(arranged(""))
    assert found == wanted
