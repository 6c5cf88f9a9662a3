"""The console script `tandem`: in a checkout it hands over to the service's command line.

The service is never installed as a package, so anywhere else the script can only say where its commands are.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run the service's command line when this file lies in a checkout; exit with code 2 otherwise."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "app" / "cli" / "__main__.py").is_file():
        sys.stderr.write(
            "tandem: this environment has the client library only.\n"
            "The service commands (tandem up, ...) run from the repository (scripts/tandem) or an image.\n"
        )
        raise SystemExit(2)
    sys.path.insert(0, str(root))
    runpy.run_module("app.cli", run_name="__main__", alter_sys=True)
