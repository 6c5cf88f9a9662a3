"""Wrong rules for the mover of floors, to see that the rig finds them: statements of this process with a bug."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.queue import store

BOUND = "%(settled)s::bigint"
BUGS: dict[str, tuple[str, str, str]] = {
    "xmax": (
        "read_snapshot",
        "pg_current_xact_id()::text::bigint AS boundary",
        "pg_snapshot_xmax(s.snapshot)::text::bigint AS boundary",
    ),
    "lowest-row": ("advance_floors", f"), {BOUND} + 1) AS next", "), 9223372036854775806) AS next"),
    "unsettled": (
        "advance_floors",
        BOUND,
        "(SELECT last_value + 0 * %(settled)s::bigint FROM tandem.ready_position)",
    ),
}
"""By name: the statement, and what it says instead. Neither a snapshot's xmax is a bound, nor the lowest row that is
visible now, nor a sample whose transactions still run."""


@contextmanager
def planted(bug: str | None) -> Iterator[None]:
    """Have this process run the statement with the bug. Raises ValueError when its place is not there any more."""
    if bug is None:
        yield
        return
    (file, right, wrong), good = BUGS[bug], store.statement
    if right not in good("floors", file).decode():
        raise ValueError(f"{file} does not say {right!r}: plant {bug} somewhere else")

    def statement(area: str, name: str) -> bytes:
        text = good(area, name)
        return text.replace(right.encode(), wrong.encode()) if name == file else text

    store.statement = statement  # type: ignore[assignment]
    try:
        yield
    finally:
        store.statement = good
