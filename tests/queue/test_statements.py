"""Guards of the SQL files: each prepares, each has its method and the other way round, functions are current."""

import ast
import re
from pathlib import Path

import psycopg
import pytest

from app.config import CHECKOUT
from app.database.deadline import BoundedConnection

QUERIES = sorted((CHECKOUT / "sql" / "queries").glob("*/*.sql"))
FUNCTIONS = sorted((CHECKOUT / "sql" / "functions").glob("*.sql"))
PLACEHOLDER = re.compile(r"%\((\w+)\)s")
DEFINITIONS = """
SELECT p.proname, pg_get_functiondef(p.oid), obj_description(p.oid)
FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace ORDER BY p.oid::regprocedure::text
"""
TYPES = {"token": "bigint"}
"""What PostgreSQL cannot know from the statement alone; the driver tells it with the value."""
READERS = {"_all", "_again", "send", "_named", "_do", "_rows", "_one", "statement"}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def prepared(text: str) -> tuple[str, list[str]]:
    """The statement with $1, $2, … and the types to declare."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    body = PLACEHOLDER.sub(number, text).replace("%%", "%")
    return body, [TYPES.get(name, "unknown") for name in names]


@pytest.mark.parametrize("path", QUERIES, ids=name_of)
def test_every_statement_prepares_against_the_migrated_database(tx: BoundedConnection, path: Path) -> None:
    body, types = prepared(path.read_text())
    declared = f"({', '.join(types)})" if types else ""
    tx.execute(
        psycopg.sql.SQL("PREPARE one {} AS {}").format(psycopg.sql.SQL(declared), psycopg.sql.SQL(body))
    )


def test_the_installed_functions_are_those_of_the_files(tx: BoundedConnection) -> None:
    installed = tx.execute(DEFINITIONS).fetchall()
    for path in FUNCTIONS:
        tx.execute(path.read_bytes())
    assert tx.execute(DEFINITIONS).fetchall() == installed, (
        "a file was edited after it was frozen in a migration"
    )
    assert {row[0] for row in installed} == {path.stem for path in FUNCTIONS}


def asked_for(path: Path) -> set[tuple[str, str, str]]:
    """(area, name, function around it) of every statement that a module loads by literal names."""
    found: set[tuple[str, str, str]] = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            literal = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            if called in READERS and len(literal) == 2 and all(isinstance(one, str) for one in literal):
                found.add((str(literal[0]), str(literal[1]), function.name))
    return found


def test_every_method_has_its_file_and_every_file_of_the_queue_its_method() -> None:
    files = {(path.parent.name, path.stem) for path in QUERIES}
    used = {one for path in (CHECKOUT / "app" / "queue").glob("*.py") for one in asked_for(path)}
    assert {(area, name) for area, name, _ in used} <= files
    areas = {area for area, _, _ in used}
    assert {one for one in files if one[0] in areas} == {(area, name) for area, name, _ in used}
    store = asked_for(CHECKOUT / "app" / "queue" / "store.py")
    assert {(name, function) for _, name, function in store if name != function} == set()
