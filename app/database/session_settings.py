"""What every session of handlers, API and sweeper is told: limits that keep a stuck process from holding up others."""

from app.config import DatabaseSettings


def idle_limit(settings: DatabaseSettings) -> dict[str, str]:
    """The session setting that ends a transaction whose process was stopped, or cut off, in its middle."""
    return {"idle_in_transaction_session_timeout": str(settings.idle_in_transaction_timeout_ms)}


def session_limits(settings: DatabaseSettings) -> dict[str, str]:
    """That, and what ends a wait for somebody else's lock."""
    return {"lock_timeout": str(settings.lock_timeout_ms), **idle_limit(settings)}
