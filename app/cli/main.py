"""The root of the command line: which commands there are, and how an error looks.

The modules of the commands import what is heavy only when a command runs.
"""

import sys
from typing import NoReturn

import typer

from app.cli import api, db, dlq, jobs, modes, queues, sweep, up, worker
from app.errors import AppError

# One line per command or group, in the order of the help: `register` adds it to the application.
COMMANDS = [
    up.register,
    api.register,
    worker.register,
    sweep.register,
    db.register,
    jobs.register,
    queues.register,
    dlq.register,
    modes.register,
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def tandem() -> None:
    """Tandem: a PostgreSQL-native transactional job queue.

    Works on DATABASE_URL if it is set, else on an embedded PostgreSQL under .tandem/ of the checkout.

    Example: tandem db upgrade
    """


for register in COMMANDS:
    register(app)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 an error that standard error explains, 2 wrong usage."""
    try:
        app(prog_name="tandem")
    except AppError as error:
        sys.stderr.write(f"tandem: {error.message}\n")
    sys.exit(1)
