"""TLS to the database under an authority of our own, on a server that has it (the embedded one has not)."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from app.config import DatabaseSettings
from app.database.account import give, server_account
from app.database.connect import connect, connect_sync
from app.errors import Unavailable
from tests.conftest import MakeServer

pytestmark = pytest.mark.tls
SETTINGS = DatabaseSettings(connect_timeout_seconds=5)
AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


@dataclass(frozen=True)
class Server:
    """Address of a server by the name localhost, and the files of the authorities."""

    url: str
    authority: Path
    stranger: Path

    def strict(self, *, authority: Path | None = None, more: str = "") -> str:
        """The address in the strictest mode."""
        return f"{self.url}?sslmode=verify-full&sslrootcert={authority or self.authority}{more}"


@pytest.fixture
def serve(open_directory: Path, make_server: MakeServer) -> Iterator[object]:
    """Makes servers, each with a certificate of its own or none."""
    folder = open_directory / "tls"
    folder.mkdir()
    folder.chmod(0o755)
    for name, authority in (("authority.pem", AUTHORITY), ("stranger.pem", STRANGER)):
        authority.cert_pem.write_to_path(folder / name)

    def make(certificate: trustme.LeafCert | None) -> Iterator[Server]:
        settings: dict[str, str] = {}
        if certificate is not None:
            key, chain = folder / "server.key", folder / "server.crt"
            certificate.private_key_pem.write_to_path(key)
            chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
            key.chmod(0o600)
            for file in (key, chain):
                give(file, server_account(folder))
            settings = {"ssl": "on", "ssl_key_file": str(key), "ssl_cert_file": str(chain)}
        with make_server(settings) as (cluster, _):
            postmaster = cluster.running()
            assert postmaster is not None
            url = cluster.url(postmaster, tcp=True).replace("@127.0.0.1:", "@localhost:")
            yield Server(url, folder / "authority.pem", folder / "stranger.pem")

    yield make


def encrypted(url: str) -> object:
    """Whether the server sees this connection encrypted."""
    with connect_sync(url, name="tls", settings=SETTINGS) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        return row[0] if row else None


async def test_a_good_server_is_taken_and_a_strangers_authority_is_not(serve: object) -> None:
    for server in serve(AUTHORITY.issue_cert("localhost")):  # type: ignore[operator]
        assert encrypted(server.strict(more="&channel_binding=require")) is True
        async with await connect(server.strict(), name="tls", settings=SETTINGS) as connection:
            assert connection.pgconn.ssl_in_use
        with pytest.raises(Unavailable, match="certificate verify failed"):
            encrypted(server.strict(authority=server.stranger))
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await connect(server.strict(authority=server.stranger), name="tls", settings=SETTINGS)


def test_a_certificate_for_another_host_is_refused(serve: object) -> None:
    for server in serve(AUTHORITY.issue_cert("db.example")):  # type: ignore[operator]
        with pytest.raises(Unavailable, match="does not match host name"):
            encrypted(server.strict())
        # The certificate is good in itself: only the strictest mode looks at the name.
        assert encrypted(server.strict().replace("verify-full", "verify-ca")) is True


def test_an_expired_certificate_is_refused(serve: object) -> None:
    past = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    old = AUTHORITY.issue_cert("localhost", not_before=past, not_after=past + datetime.timedelta(days=1))
    for server in serve(old):  # type: ignore[operator]
        with pytest.raises(Unavailable, match=r"certificate verify failed|certificate has expired"):
            encrypted(server.strict())
        assert encrypted(f"{server.url}?sslmode=require") is True  # which looks at nothing


def test_a_server_without_tls_is_refused(serve: object) -> None:
    for server in serve(None):  # type: ignore[operator]
        with pytest.raises(Unavailable, match="does not support SSL"):
            encrypted(server.strict())
        assert encrypted(f"{server.url}?sslmode=prefer") is False  # which talks to it all the same
