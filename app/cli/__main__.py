"""Entry point of `python -m app.cli` and of the console script `tandem`."""

from app.cli.main import main

main()
