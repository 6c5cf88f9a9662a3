"""The driver's journal outside the database: what was called and what came back, a JSON object a line, flushed to disk.

A call is written before it is sent, its outcome after the answer: `ok`, `fail` (certainly not done) or `unknown`.
"""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

Outcome = Literal["ok", "fail", "unknown"]


@dataclass(slots=True)
class Call:
    """One call as the journal has it. A call without an answer is unknown."""

    number: int
    op: str
    kind: str
    due: float | None = None
    """Seconds since the epoch before which the job must not run."""
    outcome: Outcome = "unknown"
    answer: str | None = None
    """What was acknowledged: the job's id, or the event's."""
    why: str = ""
    key: str | None = None
    """The partition key in an ordered queue."""
    sent_at: int = 0
    """Lines of the journal: when it was sent, and when its answer came."""
    told_at: int = 0


class Journal:
    """Append-only; safe from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._calls = 0

    def invoke(self, op: str, kind: str, *, due: float | None = None, key: str | None = None) -> int:
        """Note a call before it is sent; answers its number."""
        with self._lock:
            self._calls += 1
            number = self._calls
            self._write({"event": "invoke", "call": number, "op": op, "kind": kind, "due": due, "key": key})
        return number

    def ok(self, call: int, answer: int | str) -> None:
        """It was acknowledged."""
        with self._lock:
            self._write({"event": "ok", "call": call, "answer": str(answer)})

    def fail(self, call: int, why: str) -> None:
        """It certainly was not done."""
        with self._lock:
            self._write({"event": "fail", "call": call, "why": why})

    def unknown(self, call: int, why: str) -> None:
        """It may or may not be done."""
        with self._lock:
            self._write({"event": "unknown", "call": call, "why": why})

    def note(self, event: str, **facts: Any) -> None:
        """Something else worth keeping, such as a fault; the checker skips it."""
        with self._lock:
            self._write({"event": event, **facts})

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps({"at": round(monotonic(), 6), **line}, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_calls(path: Path) -> list[Call]:
    """The calls of a journal in their order."""
    calls: dict[int, Call] = {}
    for at, line in enumerate(_lines(path), 1):
        event = line["event"]
        if event == "invoke":
            calls[line["call"]] = Call(line["call"], line["op"], line["kind"], line.get("due"))
            calls[line["call"]].key, calls[line["call"]].sent_at = line.get("key"), at
        elif event in ("ok", "fail", "unknown"):
            call = calls[line["call"]]
            call.outcome, call.answer, call.why = event, line.get("answer"), line.get("why", "")
            call.told_at = at
    return list(calls.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):  # the last one may be torn
                yield json.loads(line)
