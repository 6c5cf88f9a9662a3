"""A real PgBouncer in transaction mode before the run's server, and what its server processes look like inside."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg

from app.database.account import as_account, give, server_account
from tests.support import servers
from tests.support.waiting import eventually

POOL = 6
"""Server processes for each database: fewer than a worker has connections, so that they are shared."""
FOUND = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def pgbouncer(url: str, *, mode: str = "transaction", pool: int = POOL) -> Iterator[str]:
    """The address of a PgBouncer that leads to the database of `url`."""
    assert FOUND is not None
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query)["host"][0]
    port = parts.port or int(parse_qs(parts.query)["port"][0])
    database = parts.path.lstrip("/")
    listen = free_port()
    with servers.open_directory() as place:
        home = Path(tempfile.mkdtemp(prefix="bouncer-", dir=place))
        account = server_account(home)
        password = f" password={parts.password}" if parts.password else ""
        (home / "pgbouncer.ini").write_text(
            f"[databases]\n{database} = host={host} port={port} dbname={database}"
            f" user={unquote(parts.username or '')}{password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = {pool}\nmax_client_conn = 500\n"
            "server_login_retry = 1\nlogfile = \n"
        )
        for path in (home, home / "pgbouncer.ini"):
            give(path, account)
        with (home / "log").open("w") as log:
            process = subprocess.Popen(
                [FOUND, "-q", str(home / "pgbouncer.ini")],
                **as_account(account),
                cwd="/",
                stdout=log,
                stderr=log,
            )
        try:
            eventually(lambda: _answers(listen) or process.poll() is not None, timeout=20)
            assert process.poll() is None, (home / "log").read_text()
            yield f"postgresql://{parts.username}@127.0.0.1:{listen}/{database}"
        finally:
            process.kill()
            process.wait(20)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def leaked(url: str, *, pool: int = POOL) -> list[tuple[str, str]]:
    """What the server processes behind the pooler kept: settings, prepared statements, channels, locks.

    Another client asks every one of them, holding each in a transaction until it has all.
    """
    question = """
        SELECT 'setting', name || '=' || setting FROM pg_settings
         WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding')
        UNION ALL SELECT 'prepared', name FROM pg_prepared_statements
        UNION ALL SELECT 'channel', c FROM pg_listening_channels() AS c
        UNION ALL SELECT 'advisory', objid::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    """
    found: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        seen = set()
        for _ in range(pool):
            client = stack.enter_context(psycopg.connect(url, prepare_threshold=None))
            seen.add(client.execute("SELECT pg_backend_pid()").fetchone())
            found += client.execute(question).fetchall()
        assert len(seen) == pool
    return found
