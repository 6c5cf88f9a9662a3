"""The last step of a worker process: end although a handler that was given up still hangs in it.

Python ends no thread, and asyncio waits for every task: without this, one wedged handler would outlive the drain.
"""

import logging
import os
import sys
from time import monotonic

from workers.supervisor import Supervisor

_log = logging.getLogger(__name__)
PATIENCE = 1.0


def leave_if_hanging(supervisor: Supervisor, *, patience: float = PATIENCE) -> None:
    """End the process at once, with success, if a handler's task or thread does not end within `patience` seconds.

    Call it after `run`. Their jobs are written or given back, and what they still do is fenced off.
    """
    end = monotonic() + patience
    for thread in supervisor.executor.handler_threads():
        thread.join(max(0.0, end - monotonic()))
    tasks, threads = supervisor.slots.hanging(), supervisor.executor.handler_threads()
    if not tasks and not threads:
        return
    _log.critical("%d tasks and %d threads of handlers do not end: leaving them", tasks, len(threads))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
