"""The locks: complete, hashed, and silent about where packages come from."""

import re

import pytest

from app.config import CHECKOUT

LOCKS = ("lock.txt", "runtime.txt")


def pins(lock: str) -> dict[str, str]:
    """Package names and what follows them, up to the next package."""
    text = (CHECKOUT / "requirements" / lock).read_text()
    parts = re.split(r"(?m)^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_an_index_or_a_path(lock: str) -> None:
    text = (CHECKOUT / "requirements" / lock).read_text()
    assert not re.search(
        r"(?i)://|--(extra-)?index-url|--find-links|--trusted-host|(^|\s)-[if]\s|@ file", text
    )
    assert not re.search(r"(?m)^[^#]*(/|\\\w)", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_with_hashes(lock: str) -> None:
    found = pins(lock)
    assert len(found) > 20
    assert [name for name, rest in found.items() if "--hash=sha256:" not in rest] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_input_is_locked(lock: str) -> None:
    wanted: set[str] = set()
    for source in ("runtime.in", "dev.in")[: 2 if lock == "lock.txt" else 1]:
        for line in (CHECKOUT / "requirements" / source).read_text().splitlines():
            if match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line):
                wanted.add(match[0].lower().replace("_", "-"))
    assert wanted - set(pins(lock)) == set()


def test_images_get_exactly_what_was_tested() -> None:
    tested, runtime = pins("lock.txt"), pins("runtime.txt")
    version = re.compile(r"[^\s;\\]+")
    assert {name: version.match(rest)[0] for name, rest in runtime.items()}.items() <= {  # type: ignore[index]
        name: version.match(rest)[0]  # type: ignore[index]
        for name, rest in tested.items()
    }.items()
