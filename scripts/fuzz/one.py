"""One target under atheris, in a process of its own: `python -m scripts.fuzz.one TARGET CORPUS [libFuzzer options]`."""

import sys

import atheris

with atheris.instrument_imports(include=["app"]):
    from scripts.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until the options say stop; the process ends with libFuzzer's own exit code."""
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
