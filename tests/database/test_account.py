"""Which account the server gets. As an ordinary user: the current one; as root: never root."""

import os
import pwd
import subprocess
from pathlib import Path

from app.database.account import SERVER_ACCOUNT, as_account, can_reach, give, server_account

ROOT = os.geteuid() == 0


def test_only_root_needs_another_account(open_directory: Path) -> None:
    account = server_account(open_directory / "postgres" / "data")
    if not ROOT:
        assert account is None
        return
    assert account is not None
    assert account.name == SERVER_ACCOUNT
    assert pwd.getpwnam(SERVER_ACCOUNT).pw_uid == account.uid != 0


def test_what_belongs_to_somebody_is_served_by_its_owner(open_directory: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    if ROOT:
        os.chown(open_directory, nobody.pw_uid, nobody.pw_gid)
    account = server_account(open_directory / ".tandem" / "postgres" / "data")
    assert (account.name if account else None) == ("nobody" if ROOT else None)


def test_a_program_runs_as_the_account_and_keeps_its_files_to_itself(open_directory: Path) -> None:
    account = server_account(open_directory)
    give(open_directory, account)
    made = open_directory / "made"
    subprocess.run(["/bin/sh", "-c", 'touch "$1"', "sh", made], **as_account(account), check=True, cwd="/")
    assert made.stat().st_uid == (account.uid if account else os.geteuid())
    assert made.stat().st_mode & 0o077 == 0


def test_closed_directories_are_seen_as_such(open_directory: Path) -> None:
    inner = open_directory / "inner"
    inner.mkdir()
    inner.chmod(0o755)
    account = server_account(open_directory)
    assert can_reach(account, inner)
    open_directory.chmod(0o600 if not ROOT else 0o700)
    assert not can_reach(account, inner)
    open_directory.chmod(0o755)
