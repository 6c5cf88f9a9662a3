"""The client's statements: files beside this one, in the parameter styles of psycopg and of asyncpg."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: `named` with %(name)s, `numbered` with $1 for each of `names` in turn."""

    named: bytes
    numbered: str
    names: tuple[str, ...]

    def values(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """The parameters in the order of their numbers."""
        return tuple(params[name] for name in self.names)

    def texts(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters for psycopg, which takes twice as long as everything else here for a list of strings."""
        return {
            name: array_text(value) if type(value) is list and _is_text(value) else value
            for name, value in params.items()
        }


def array_text(values: Sequence[str | None]) -> str:
    """A list of strings as PostgreSQL writes arrays."""
    return "{" + ",".join([_quoted(value) for value in values]) + "}"


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_text(values: list[Any]) -> bool:
    return all(value is None or type(value) is str for value in values)


def load(package: str, name: str) -> Statement:
    """The statement in the file NAME.sql of a package."""
    lines = files(package).joinpath(f"{name}.sql").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("--"))
    names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", text)
    return Statement(text.encode(), numbered, names)


ENQUEUE_JOB = load(__package__, "enqueue_job")
ENQUEUE_JOBS = load(__package__, "enqueue_jobs")
ENQUEUE_AFTER = load(__package__, "enqueue_after")
BEGIN_COPY = load(__package__, "begin_copy")
ENQUEUE_COPIED = load(__package__, "enqueue_copied")
PUBLISH_MESSAGES = load(__package__, "publish_messages")
