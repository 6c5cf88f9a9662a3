"""Has the plots of a saved run drawn. matplotlib lives in an environment of its own, where plotting/draw.py runs."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKED = Path(__file__).resolve().parent / "plotting" / "requirements.txt"
ENVIRONMENT = ROOT / ".tandem" / "bench" / "envs" / "plots"


def draw(place: Path) -> str:
    """Draw in matplotlib's own environment, made if need be; answers what happened, in a few words."""
    try:
        python = _environment()
        command = [str(python), "-P", "-m", "scripts.bench.plotting.draw", str(place)]
        subprocess.run(
            command, check=True, env={"PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(ENVIRONMENT)}, timeout=300
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"no plots: {error}"
    return "plots are beside the table"


def _environment() -> Path:
    digest = hashlib.sha256(LOCKED.read_bytes()).hexdigest()
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "stamp"
    if not stamp.exists() or stamp.read_text() != digest:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = (
            "-m pip install -qq --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r"
        )
        subprocess.run([str(python), *install.split(), str(LOCKED)], check=True, stdout=sys.stderr)
        stamp.write_text(digest)
    return python
