"""Whether an address of PostgreSQL keeps what is sent to it from others on the way: TLS with a checked certificate."""

import ipaddress

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from app.config import DatabaseSettings
from app.database.connect import connection_string
from app.errors import ConfigurationError

STRICT = "verify-full"


def check(url: str, settings: DatabaseSettings) -> None:
    """Refuse an address over a network whose server nobody checks. Raises ConfigurationError with the way out.

    Sockets and loopback addresses need no TLS. Anything weaker than verify-full lets whoever stands between read
    passwords and payloads, or answer in the server's place.
    """
    given = conninfo_to_dict(connection_string(url, name="check", settings=settings))
    defaults = {one.keyword.decode(): (one.val or b"").decode() for one in Conninfo.get_defaults()}
    hosts = str(given.get("hostaddr") or given.get("host") or defaults.get("host") or "").split(",")
    mode = str(given.get("sslmode") or defaults.get("sslmode") or "prefer")
    exposed = [host for host in hosts if not _is_local(host)]
    if exposed and mode != STRICT and settings.tls == STRICT:
        raise ConfigurationError(
            "weak-tls",
            f"the database at {exposed[0]} is reached over a network with sslmode={mode}: add"
            " sslmode=verify-full&sslrootcert=FILE to DATABASE_URL, or accept it with TANDEM_DATABASE__TLS=any",
            detail={"host": exposed[0], "sslmode": mode},
        )


def _is_local(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
