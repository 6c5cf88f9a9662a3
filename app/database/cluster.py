"""One PostgreSQL data directory: make it, start it, find it running, stop it.

Knows binaries and files, not who uses the server (embedded.py). Also serves the tests' throwaway servers.
"""

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil

from app.database.account import Account, as_account, give
from app.errors import ConfigurationError, Unavailable

USER = "tandem"
DATABASE = "tandem"
# sun_path holds 108 bytes with its final zero, and the longest file name is "/.s.PGSQL.65535".
SOCKET_DIRECTORY_LIMIT = 107 - 15
START_SECONDS = 300
# A process id that no system hands out, for a postmaster.pid whose real one now belongs to a stranger.
NO_SUCH_PROCESS = 2**31 - 2

SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_cost_delay": "1ms",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %a ",
    "password_encryption": "scram-sha-256",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
    "client_connection_check_interval": "5s",
}


@dataclass(frozen=True)
class Postmaster:
    """A running server, as its postmaster.pid tells it."""

    pid: int
    port: int
    socket_directory: str
    status: str


@dataclass(frozen=True)
class Cluster:
    """A data directory below `base`, served by the programs in `binaries` under `account` (None: ours)."""

    base: Path
    binaries: Path
    account: Account | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """PostgreSQL's own directory."""
        return self.base / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.base / "server.log"

    def url(self, postmaster: Postmaster, *, database: str = DATABASE, tcp: bool = False) -> str:
        """The address of a database, through the socket (guarded by its directory) or TCP (by a password)."""
        if tcp:
            password = (self.base / "password").read_text().strip()
            return f"postgresql://{USER}:{password}@127.0.0.1:{postmaster.port}/{database}"
        directory = quote(postmaster.socket_directory, safe="")
        return f"postgresql://{USER}@/{database}?host={directory}&port={postmaster.port}"

    def running(self) -> Postmaster | None:
        """The server of this directory if it lives, in whatever status; a stale pid file counts as none."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        # The last lines are written one by one while the server starts.
        lines += [""] * (8 - len(lines))
        if not lines[0].strip().isdigit() or not self._is_ours(int(lines[0])):
            return None
        port = int(lines[3]) if lines[3].strip().isdigit() else 0
        return Postmaster(int(lines[0]), port, lines[4].strip(), lines[7].strip())

    def start(self) -> Postmaster:
        """Make what is missing, start the server unless it runs, wait until it answers.

        Raises Unavailable with the end of the server's log when it does not start, ConfigurationError when
        the data belong to another major version.
        """
        self._initialize()
        if (alive := self._settled()) is not None:
            return alive
        self._check_version()
        failed = ""
        for attempt in range(3):
            self._disown_strangers_pid()
            self._configure(first_choice=attempt == 0)
            failed = self._run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start")
            # pg_ctl gives up before a long crash recovery ends, the server does not.
            if (alive := self._settled()) is not None:
                return alive
            # Its port may be taken, or backends of a killed postmaster may still be ending.
            time.sleep(0.5 * (attempt + 1))
        raise Unavailable("server-not-started", f"PostgreSQL did not start: {failed}\n{self._log_tail()}")

    def stop(self, *, mode: str = "fast") -> None:
        """Stop the server and wait; `mode` as pg_ctl names it. Nothing happens when it does not run."""
        if self.running() is None:
            return
        failed = self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop")
        if failed and self.running() is not None:
            raise Unavailable("server-not-stopped", f"PostgreSQL did not stop: {failed}\n{self._log_tail()}")

    def _settled(self) -> Postmaster | None:
        """Wait out a start, recovery or stop under way; the ready server, or None when there is none."""
        end = time.monotonic() + START_SECONDS
        while (found := self.running()) is not None and time.monotonic() < end:
            if found.status == "ready":
                return found
            time.sleep(0.02)
        return None

    def _is_ours(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            arguments = process.cmdline()
            if process.status() == psutil.STATUS_ZOMBIE or "-D" not in arguments[:-1]:
                return False
            served = arguments[arguments.index("-D") + 1]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
        return Path(arguments[0]).name == "postgres" and os.path.realpath(served) == os.path.realpath(
            self.data
        )

    def _initialize(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        self.base.mkdir(parents=True, exist_ok=True)
        self.base.chmod(0o700)
        give(self.base, self.account)
        password = self.base / "password"
        self._write(password, secrets.token_urlsafe(24) + "\n")
        unfinished = self.base / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        failed = self._run(
            "initdb",
            *("-D", unfinished, "-U", USER, "--pwfile", password),
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-instructions", *self._locale()),
        )
        if failed:
            raise Unavailable("server-not-created", f"initdb failed: {failed}")
        single_user = ("--single", "-D", unfinished, "postgres")
        # The role has the name of our schema: without this, a user's tables would land among the queue's.
        said = f"CREATE DATABASE {DATABASE}\nALTER DATABASE {DATABASE} SET search_path = public\n"
        failed = self._run("postgres", *single_user, said=said)
        if failed:
            raise Unavailable("server-not-created", f"the database could not be made: {failed}")
        self._write(unfinished / "tandem.conf", "")
        with (unfinished / "postgresql.conf").open("a") as file:
            file.write("include 'tandem.conf'  # written at every start\n")
        # Only a whole directory gets the name that everybody looks for.
        unfinished.rename(self.data)

    def _locale(self) -> tuple[str, ...]:
        # The built-in provider sorts and folds alike on every machine; before 17 there is only libc's.
        if self._major() >= 17:
            return ("--locale-provider", "builtin", "--locale", "C.UTF-8")
        return ("--locale", "C.UTF-8")

    def _major(self) -> int:
        said = subprocess.run(
            [self.binaries / "postgres", "-V"], check=True, capture_output=True, text=True
        ).stdout
        return int(said.split()[2].split(".")[0])

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != str(self._major()):
            raise ConfigurationError(
                "data-of-another-version",
                f"{self.data} was made by PostgreSQL {made_by}, the installed programs are {self._major()}; "
                "move that directory away (and restore a dump), or set DATABASE_URL",
            )

    def _disown_strangers_pid(self) -> None:
        """After a crash of the machine the recorded pid may be another program's: PostgreSQL would not start.

        Only the pid is replaced; the rest lets PostgreSQL see whether old backends still hold its memory.
        """
        file = self.data / "postmaster.pid"
        if file.exists() and self.running() is None:
            _, _, rest = file.read_text().partition("\n")
            self._write(file, f"{NO_SUCH_PROCESS}\n{rest}")

    def _configure(self, *, first_choice: bool) -> None:
        remembered = self.base / "port"
        port = int(remembered.read_text()) if first_choice and remembered.exists() else 0
        # The port of last time if it is free, so that addresses stay true over a restart.
        port = _free_port(port) or _free_port(0)
        self._write(remembered, str(port))
        lines = SETTINGS | dict(self.settings)
        lines |= {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_permissions": "0700"}
        lines["unix_socket_directories"] = str(self._socket_directory())
        text = "".join(f"{key} = '{value.replace(chr(39), chr(39) * 2)}'\n" for key, value in lines.items())
        self._write(self.data / "tandem.conf", text)

    def _socket_directory(self) -> Path:
        """Where the socket lies, its owner's alone: with the data, or in /tmp when that path is too long."""
        directory = self.base / "run"
        if len(os.fsencode(directory)) > SOCKET_DIRECTORY_LIMIT:
            owner = self.account.uid if self.account else os.geteuid()
            digest = hashlib.sha256(os.fsencode(self.base)).hexdigest()[:12]
            directory = Path("/tmp") / f"tandem-{owner}-{digest}"  # noqa: S108 - owner and mode are checked below
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if found.st_uid == os.geteuid():
            directory.chmod(0o700)
            give(directory, self.account)
        elif self.account is None or found.st_uid != self.account.uid or directory.is_symlink():
            raise ConfigurationError(
                "socket-directory-taken", f"{directory} belongs to somebody else: remove it"
            )
        return directory

    def _write(self, path: Path, text: str) -> None:
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        new.chmod(0o600)
        give(new, self.account)
        new.replace(path)

    def _run(self, program: str, *arguments: str | Path, said: str = "") -> str:
        """Run a program of PostgreSQL, `said` to it; empty when it succeeded, what it answered otherwise."""
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        # A pipe would be held open by the server that pg_ctl leaves behind.
        with tempfile.TemporaryFile("w+") as answer, tempfile.TemporaryFile("w+") as question:
            question.write(said)
            question.seek(0)
            result = subprocess.run(
                [self.binaries / program, *arguments],
                **as_account(self.account),
                stdin=question,
                stdout=answer,
                stderr=answer,
                cwd=self.base,
                env=environment,
                start_new_session=True,
                check=False,
            )
            answer.seek(0)
            output = answer.read().strip()
        return "" if result.returncode == 0 else output or f"{program} ended with {result.returncode}"

    def _log_tail(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
        except FileNotFoundError:
            return ""


def _free_port(wanted: int) -> int:
    """A loopback port that is free now: the wanted one, or any for 0; 0 when the wanted one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
        return int(probe.getsockname()[1])
