"""The root of the command line: which commands there are, and how an error looks.

The modules of the commands import what is heavy only when a command runs.
"""

import sys
from typing import NoReturn

import typer
from typer._completion_classes import completion_init

from app.cli import (
    api,
    audit,
    completion,
    cron,
    customers,
    db,
    dlq,
    doctor,
    jobs,
    keys,
    limits,
    modes,
    queues,
    sweep,
    topics,
    up,
    worker,
)
from app.errors import AppError

# One line per command or group, in the order of the help: `register` adds it to the application.
COMMANDS = [
    up.register,
    api.register,
    worker.register,
    sweep.register,
    db.register,
    keys.register,
    jobs.register,
    queues.register,
    customers.register,
    limits.register,
    cron.register,
    dlq.register,
    topics.register,
    audit.register,
    doctor.register,
    modes.register,
    completion.register,
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def tandem() -> None:
    """Tandem: a PostgreSQL-native transactional job queue.

    Works on DATABASE_URL if it is set, else on an embedded PostgreSQL under .tandem/ of the checkout.

    Exit codes: 0 done; 1 an error that standard error explains, a check that failed, a job that could not be changed;
    2 wrong usage.

    Example: tandem db upgrade && tandem doctor
    """


for register in COMMANDS:
    register(app)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 an error that standard error explains, 2 wrong usage."""
    completion_init()
    try:
        app(prog_name="tandem")
    except AppError as error:
        sys.stderr.write(f"tandem: {error.message}\n")
    sys.exit(1)
