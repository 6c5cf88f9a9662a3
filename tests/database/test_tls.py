"""TLS to the database, on a server that has it (the embedded one has not): what the address asks for is kept."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import DatabaseSettings
from app.database.account import give, server_account
from app.database.connect import connect, connect_sync
from app.errors import Unavailable
from tests.conftest import MakeServer

pytestmark = pytest.mark.tls
SETTINGS = DatabaseSettings(connect_timeout_seconds=5)


def certificate(folder: Path, name: str, host: str) -> tuple[Path, Path]:
    """A self-signed certificate, which is its own authority, and its key."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={host}",
            ),
            *("-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.fixture
def secure(open_directory: Path, make_server: MakeServer) -> Iterator[tuple[str, Path, Path]]:
    """Address of a server for "localhost", its authority, and a stranger's."""
    folder = open_directory / "tls"
    folder.mkdir()
    folder.chmod(0o755)
    key, authority = certificate(folder, "server", "localhost")
    _, stranger = certificate(folder, "stranger", "localhost")
    key.chmod(0o600)
    authority.chmod(0o644)
    for file in (key, authority):
        give(file, server_account(folder))
    with make_server({"ssl": "on", "ssl_key_file": str(key), "ssl_cert_file": str(authority)}) as (
        cluster,
        _,
    ):
        postmaster = cluster.running()
        assert postmaster is not None
        yield cluster.url(postmaster, tcp=True), authority, stranger


def encrypted(url: str) -> object:
    """Whether the server sees this connection encrypted."""
    with connect_sync(url, name="tls", settings=SETTINGS) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        return row[0] if row else None


async def test_the_strictest_mode_is_honoured(secure: tuple[str, Path, Path]) -> None:
    url, authority, stranger = secure
    strict = url.replace("@127.0.0.1:", "@localhost:") + "?sslmode=verify-full&sslrootcert="
    assert encrypted(f"{strict}{authority}&channel_binding=require") is True
    async with await connect(f"{strict}{authority}", name="tls", settings=SETTINGS) as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(Unavailable, match="certificate verify failed"):
        encrypted(f"{strict}{stranger}")


def test_a_certificate_for_another_host_is_refused(secure: tuple[str, Path, Path]) -> None:
    url, authority, _ = secure
    with pytest.raises(Unavailable, match="does not match host name"):
        encrypted(f"{url}?sslmode=verify-full&sslrootcert={authority}")
    assert encrypted(f"{url}?sslmode=verify-ca&sslrootcert={authority}") is True
