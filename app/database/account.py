"""Which operating system account the embedded server runs under. PostgreSQL refuses to run as root.

As an ordinary user there is nothing to decide. As root the server gets an account of its own, and what that
account cannot reach (a checkout below /root) has to be elsewhere.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ConfigurationError

SERVER_ACCOUNT = "tandem-postgres"


@dataclass(frozen=True)
class Account:
    """An account that root hands the server to."""

    name: str
    uid: int
    gid: int


def server_account(data: Path) -> Account | None:
    """The account for a server on directory `data`; None means the current one. Only root gets another.

    What belongs to somebody stays theirs: in an ordinary user's checkout root starts the server as that user.
    Raises ConfigurationError when no account can be made.
    """
    if os.geteuid() != 0:
        return None
    nearest = next(path for path in (data, *data.parents) if path.exists())
    if (owner := nearest.stat().st_uid) != 0:
        return _from_entry(pwd.getpwuid(owner))
    return _find(SERVER_ACCOUNT) or _create() or _find("postgres") or _find("nobody") or _refuse()


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether the account may read and, for a directory, enter `path` (which must exist)."""
    if account is None:
        return os.access(path, os.R_OK | os.X_OK)
    # Asked of the kernel, as that account: modes alone would miss access lists and mount options.
    probe = subprocess.run(
        ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)],
        **as_account(account),
        cwd="/",
        check=False,
        capture_output=True,
    )
    return bool(probe.returncode == 0)


def give(path: Path, account: Account | None) -> None:
    """Make the account the owner of `path`."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def as_account(account: Account | None) -> dict[str, Any]:
    """Arguments for subprocess.run: the account, and a mask that keeps what it writes to itself."""
    arguments: dict[str, Any] = {"umask": 0o077}
    if account is not None:
        arguments |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return arguments


def _find(name: str) -> Account | None:
    try:
        return _from_entry(pwd.getpwnam(name))
    except KeyError:
        return None


def _from_entry(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create() -> Account | None:
    useradd = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
    try:
        subprocess.run(
            [*useradd, "--shell", "/usr/sbin/nologin", SERVER_ACCOUNT],
            check=False,
            capture_output=True,
            timeout=30,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return _find(SERVER_ACCOUNT)


def _refuse() -> Account:
    raise ConfigurationError(
        "no-server-account",
        "PostgreSQL does not run as root, and no account for it could be made: "
        f"run `useradd --system {SERVER_ACCOUNT}`, work as an ordinary user, or set DATABASE_URL",
    )
