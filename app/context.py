"""What the present request or job is: ids that travel along and appear in every log line written meanwhile.

Holds names and values only; observability.logging reads it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

Value = str | int
_EMPTY: Mapping[str, Value] = MappingProxyType({})
_present: ContextVar[Mapping[str, Value]] = ContextVar("tandem_context", default=_EMPTY)


def present() -> Mapping[str, Value]:
    """The ids bound here, for instance request_id, conversation_id, job_id."""
    return _present.get()


@contextmanager
def bind(**ids: Value) -> Iterator[None]:
    """Bind ids over those bound already, for the length of a block and the tasks started in it."""
    token = _present.set({**_present.get(), **ids})
    try:
        yield
    finally:
        _present.reset(token)


def enter(ids: Mapping[str, Value]) -> None:
    """Replace the ids of this task until it enters others: for tasks that do one thing after another."""
    _present.set(ids)
