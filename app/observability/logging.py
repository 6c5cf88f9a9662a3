"""Log lines on standard error, as JSON for machines or text for people, each with the ids that are bound around it.

Control characters never reach a terminal, and what looks like a secret never reaches a log.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from app.config import LoggingSettings
from app.context import present

QUIET: Final = ("apscheduler", "httpx", "httpcore", "uvicorn.access", "asyncio")
"""Libraries that log each of their steps: only their warnings are kept."""
_SECRETS: Final = (
    re.compile(r"(://[^\s:/@]*:)[^\s@]+(?=@)"),
    re.compile(r"(password\s*=\s*)(?:'[^']*'|[^\s&'\"]+)", re.IGNORECASE),
    re.compile(r"(\bBearer\s+)[A-Za-z0-9._~+/=-]+", re.IGNORECASE),
    re.compile(r"(\btandem_[a-z0-9]{12}_)[A-Za-z0-9_-]{43}"),
    re.compile(r"(\beyJ[A-Za-z0-9_-]{8,}\.)[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),
)
"""Passwords in addresses and connection strings, credentials, API keys (ids stay), tokens (headers stay)."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def set_up_logging(settings: LoggingSettings, *, stream: TextIO | None = None) -> None:
    """Send every log of this process to standard error (or `stream`) in the settings' form and level."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def clean(text: str) -> str:
    """The text without what looks like a secret."""
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, the bound ids, and an exception's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": clean(record.getMessage()),
            **present(),
        }
        if record.exc_info:
            line["exception"] = clean(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The same for people: time, level, logger, message, ids; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        ids = "".join(f" {name}={value}" for name, value in present().items())
        message = _CONTROL.sub(_escape, clean(record.getMessage()))
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {message}{ids}"
        if record.exc_info:
            line += "\n" + clean(self.formatException(record.exc_info))
        return line


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
