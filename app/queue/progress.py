"""How far a running job says that it is: the newest value of each try, and the fenced write of many at once.

Decides nothing about when to write; the worker's ProgressWriter does.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from app.errors import InvalidInput
from app.queue.dict_rows import DictRows
from app.queue.retry import storable
from app.queue.store import statement

STAGE_LIMIT = 200


class Progress(NamedTuple):
    """From 0 to 100 per cent, and what is being done."""

    percent: float
    stage: str = ""

    @classmethod
    def of(cls, percent: float, stage: str) -> "Progress":
        """Checked: raises InvalidInput for what is no percentage; a stage is cut to 200 characters."""
        given: object = percent
        if not isinstance(given, int | float) or isinstance(given, bool) or not math.isfinite(given):
            raise InvalidInput("invalid-progress", f"progress is a number from 0 to 100, not {percent!r}")
        if not 0 <= given <= 100:
            raise InvalidInput("invalid-progress", f"progress is 0 to 100 per cent, not {percent:g}")
        return cls(float(given), storable(str(stage), STAGE_LIMIT))


class ProgressStore(DictRows):
    """The statements of sql/queries/progress."""

    async def write_progress(self, values: Sequence[tuple[int, int, Progress]]) -> set[int]:
        """Write (job, token, progress) of each; answers the jobs whose lease was still ours."""
        params = {
            "job_ids": [job for job, _, _ in values],
            "tokens": [token for _, token, _ in values],
            "percents": [progress.percent for _, _, progress in values],
            "stages": [progress.stage for _, _, progress in values],
        }
        return {row["job_id"] for row in await self._rows(statement("progress", "write_progress"), params)}

    async def forget_progress(self, *, retention: timedelta) -> int:
        """Forget what ended long ago; answers how many."""
        cursor = self.connection.cursor()
        await cursor.execute(
            statement("progress", "forget_progress"), {"retention": retention}, prepare=False
        )
        return cursor.rowcount
