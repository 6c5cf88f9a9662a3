"""What a run costs the server: statements, WAL, rows, dead rows, CPU. Read as the observer, who is not counted."""

from dataclasses import dataclass, fields
from typing import Any

import psutil
import psycopg

READ = """
SELECT (SELECT coalesce(sum(s.calls), 0)::bigint FROM pg_stat_statements(false) AS s
        WHERE s.dbid = d.datid AND s.userid <> 'observer'::regrole) AS statements,
       (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS wal,
       d.xact_commit AS transactions,
       t.inserted + t.updated AS heap_tuples, t.deleted, t.dead,
       (SELECT coalesce(sum(i.n), 0)::bigint FROM (
           SELECT (t.n_tup_ins + t.n_tup_upd - t.n_tup_hot_upd)
                  * (SELECT count(*) FROM pg_index AS x WHERE x.indrelid = t.relid) AS n
           FROM pg_stat_user_tables AS t) AS i) AS index_tuples,
       d.blks_hit + d.blks_read AS buffers
FROM pg_stat_database AS d,
     (SELECT coalesce(sum(n_tup_ins), 0)::bigint AS inserted, coalesce(sum(n_tup_upd), 0)::bigint AS updated,
             coalesce(sum(n_tup_del), 0)::bigint AS deleted, coalesce(sum(n_dead_tup), 0)::bigint AS dead
      FROM pg_stat_user_tables) AS t
WHERE d.datname = current_database()"""


@dataclass(frozen=True)
class Cost:
    """Counters of one database, or the difference of two readings. CPU in seconds, WAL in bytes."""

    statements: float
    wal: float
    transactions: float
    heap_tuples: float
    deleted: float
    dead: float
    index_tuples: float
    buffers: float
    server_cpu: float

    def since(self, before: Any) -> "Cost":
        """What happened between two readings of this meter."""
        return Cost(**{f.name: getattr(self, f.name) - getattr(before, f.name) for f in fields(self)})

    def per_job(self, jobs: int) -> dict[str, float]:
        """Every counter divided by the jobs; CPU in microseconds."""
        values = {f.name: getattr(self, f.name) / max(1, jobs) for f in fields(self)}
        values["server_cpu_us"] = values.pop("server_cpu") * 1e6
        return {f"{name}_per_job": round(value, 4) for name, value in values.items()}


class Meter:
    """Reads the counters of one database."""

    def __init__(self, observer_url: str, postmaster: int) -> None:
        self._connection: psycopg.Connection[Any] = psycopg.connect(observer_url, autocommit=True)
        self.postmaster = postmaster

    def read(self) -> Cost:
        """The counters now. Other sessions publish theirs within a second of becoming idle, or when they end."""
        self._connection.execute("SELECT pg_stat_force_next_flush()")
        row = self._connection.execute(READ).fetchone()
        if row is None:
            raise RuntimeError("the database has no statistics")
        return Cost(*(float(value) for value in (*row, self._cpu())))

    def number(self, query: str) -> int:
        """The one number that a query answers."""
        row = self._connection.execute(query.encode()).fetchone()
        return int(row[0]) if row is not None else 0

    def run(self, statement: str) -> None:
        """Run a statement uncounted."""
        self._connection.execute(statement.encode())

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()

    def _cpu(self) -> float:
        """CPU seconds of the postmaster, its living children, and those it has buried."""
        postmaster = psutil.Process(self.postmaster)
        times = postmaster.cpu_times()
        total: float = times.user + times.system + times.children_user + times.children_system
        for child in postmaster.children():
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += own.user + own.system
        return total
