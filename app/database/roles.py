"""Least-privilege roles of PostgreSQL: makes them, gives the schema to its owner, grants what sql/roles.toml says.

The owner and the other roles have no login of their own: real logins become members of one.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from app.config import CHECKOUT
from app.database.migrate import LOCK
from app.errors import ConfigurationError

OWNER: Final = "tandem_owner"
MIGRATOR: Final = "tandem_migrator"
POLICY: Final = CHECKOUT / "sql" / "roles.toml"
SCHEMAS: Final = ("tandem", "public")
_OURS: Final = re.compile(
    r"^CREATE (?:UNLOGGED )?(?:TABLE|VIEW|SEQUENCE|FUNCTION) (public\.\w+)", re.MULTILINE
)
_VERB: Final = re.compile(r"(SELECT|INSERT|UPDATE|DELETE|USAGE)(?:\(([\w, ]+)\))?")
_WORDS: Final[Mapping[str, LiteralString]] = {
    "SELECT": "SELECT",
    "INSERT": "INSERT",
    "UPDATE": "UPDATE",
    "DELETE": "DELETE",
    "USAGE": "USAGE",
    "EXECUTE": "EXECUTE",
}
_OBJECTS: Final = """
SELECT n.nspname || '.' || c.relname AS name, c.oid::regclass::text AS quoted,
       CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, pg_get_userbyid(c.relowner) AS owner,
       EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
               AND d.deptype IN ('a', 'i') AND c.relkind = 'S') AS follows
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('tandem', 'public') AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
UNION ALL
SELECT n.nspname || '.' || p.proname, p.oid::regprocedure::text, 'FUNCTION', pg_get_userbyid(p.proowner), false
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname IN ('tandem', 'public')
ORDER BY 1, 2
"""
_GRANTED: Final = """
SELECT g.name, CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee) END AS role, g.verb
FROM (
    SELECT n.nspname || '.' || c.relname AS name, a.grantee, a.privilege_type AS verb
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS a
    WHERE n.nspname IN ('tandem', 'public') AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND a.grantee <> c.relowner
    UNION ALL
    SELECT n.nspname || '.' || c.relname, a.grantee, a.privilege_type || '(' || t.attname || ')'
    FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
         aclexplode(t.attacl) AS a
    WHERE n.nspname IN ('tandem', 'public') AND a.grantee <> c.relowner
    UNION ALL
    SELECT n.nspname || '.' || p.proname, a.grantee, a.privilege_type
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace,
         aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE n.nspname IN ('tandem', 'public') AND a.grantee <> p.proowner
) AS g
"""
_EXISTS: Final = "SELECT count(*) FROM pg_roles WHERE rolname = %s"

Connection = psycopg.Connection[tuple[Any, ...]]
Grant = tuple[str, str, str]
"""Object, role, verb."""


@dataclass(frozen=True)
class Item:
    """One object of ours in the database."""

    name: str
    quoted: str
    kind: str
    owner: str
    follows: bool


def policy() -> dict[str, dict[str, Any]]:
    """The checked-in matrix, by role."""
    return tomllib.loads(POLICY.read_text())


def apply(connection: Connection) -> list[str]:
    """Make roles and grants what the policy says, in the caller's transaction; the roles that were made.

    Safe to repeat. Raises ConfigurationError for a caller who may not.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    try:
        made = [role for role in (OWNER, MIGRATOR, *policy()) if _make_role(connection, role)]
        _own(connection)
        _close(connection)
        for item in items(connection):
            _grant(connection, item)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            "roles-not-allowed",
            f"this role may not arrange roles ({str(error).partition(chr(10))[0]}): run it as a superuser the first"
            f" time, and as a member of {MIGRATOR} later",
        ) from error
    return made


def in_use(connection: Connection) -> bool:
    """Whether this database's schema has been given to the owner."""
    query = "SELECT count(*) FROM pg_namespace WHERE nspname = 'tandem' AND pg_get_userbyid(nspowner) = %s"
    return _number(connection, query, OWNER) > 0


def items(connection: Connection) -> list[Item]:
    """Everything of ours: all of the schema `tandem`, and what sql/schema.sql makes in `public`."""
    ours = set(_OURS.findall((CHECKOUT / "sql" / "schema.sql").read_text()))
    found = [Item(*row) for row in connection.execute(_OBJECTS)]
    owners = {item.name for item in found if item.name in ours}
    return [
        item
        for item in found
        if item.name.startswith("tandem.") or item.name in ours or (item.follows and _parent(item, owners))
    ]


def expected(connection: Connection) -> set[Grant]:
    """What the policy grants on what is there."""
    return {
        (item.name, role, verb if not column else f"{verb}({column})")
        for item in items(connection)
        for role in policy()
        for verb, columns in verbs(role, item)
        for column in columns or ("",)
    }


def actual(connection: Connection) -> set[Grant]:
    """What the catalogue says, PUBLIC included, of the same objects."""
    names = {item.name for item in items(connection)}
    return {(name, role, verb) for name, role, verb in connection.execute(_GRANTED) if name in names}


def verbs(role: str, item: Item) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the policy lets a role do with an object: verbs, with columns where it is only those."""
    rules = policy()[role]
    if item.kind == "FUNCTION":
        if _fits(item, rules.get("functions", [])) and not _fits(item, rules.get("no_functions", [])):
            yield "EXECUTE", ()
        return
    rules = rules.get("sequences" if item.kind == "SEQUENCE" else "relations", {})
    text = next((rules[pattern] for pattern in reversed(rules) if fnmatchcase(item.name, pattern)), "")
    for verb, columns in _VERB.findall(text):
        yield verb, tuple(part.strip() for part in columns.split(",")) if columns else ()


def _make_role(connection: Connection, role: str) -> bool:
    if _number(connection, _EXISTS, role):
        return False
    connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    return True


def _own(connection: Connection) -> None:
    """Everything belongs to a role that nobody can log in as; migrations act as it."""
    owner, migrator = sql.Identifier(OWNER), sql.Identifier(MIGRATOR)
    row = connection.execute(
        "SELECT current_database(), pg_has_role(%s, %s, 'MEMBER')", (MIGRATOR, OWNER)
    ).fetchone()
    database = sql.Identifier(row[0] if row else "")
    if row is not None and not row[1]:
        connection.execute(sql.SQL("GRANT {} TO {}").format(owner, migrator))
    if not in_use(connection):
        connection.execute(sql.SQL("ALTER SCHEMA tandem OWNER TO {}").format(owner))
        connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(owner))
        connection.execute(sql.SQL("GRANT TEMPORARY, CREATE ON DATABASE {} TO {}").format(database, owner))
        connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    for item in items(connection):
        if item.owner != OWNER and not item.follows:
            kind = sql.SQL({"TABLE": "TABLE", "SEQUENCE": "SEQUENCE", "FUNCTION": "FUNCTION"}[item.kind])
            connection.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(kind, sql.SQL(item.quoted), owner))


def _close(connection: Connection) -> None:
    connection.execute("REVOKE ALL ON SCHEMA tandem FROM PUBLIC")
    connection.execute(
        sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC").format(
            sql.Identifier(OWNER)
        )
    )
    for role in policy():
        name = sql.Identifier(role)
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA tandem TO {}").format(name))


def _grant(connection: Connection, item: Item) -> None:
    kind = sql.SQL(
        "FUNCTION" if item.kind == "FUNCTION" else "SEQUENCE" if item.kind == "SEQUENCE" else "TABLE"
    )
    target = sql.SQL(item.quoted)  # regclass and regprocedure quote what needs it
    everyone = sql.SQL(", ").join([sql.SQL("PUBLIC"), *(sql.Identifier(role) for role in policy())])
    connection.execute(sql.SQL("REVOKE ALL ON {} {} FROM {}").format(kind, target, everyone))
    for role in policy():
        for verb, columns in verbs(role, item):
            listed = (
                sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
                if columns
                else sql.SQL("")
            )
            connection.execute(
                sql.SQL("GRANT {}{} ON {} {} TO {}").format(
                    sql.SQL(_WORDS[verb]), listed, kind, target, sql.Identifier(role)
                )
            )


def _fits(item: Item, patterns: list[str]) -> bool:
    return any(fnmatchcase(item.name, pattern) for pattern in patterns)


def _parent(item: Item, tables: set[str]) -> bool:
    """Whether a sequence belongs to one of these tables; its name begins with theirs."""
    return any(item.name.startswith(table + "_") for table in tables)


def _number(connection: Connection, query: LiteralString, *values: object) -> int:
    row = connection.execute(query, values).fetchone()
    return int(row[0]) if row is not None else 0
