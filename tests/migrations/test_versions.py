"""The history of the schema: one line, told the same way by Alembic and by the file names."""

from alembic.script import ScriptDirectory

from app.config import CHECKOUT
from app.database import migrate, version

FROZEN = CHECKOUT / "sql" / "migrations"


def test_file_names_and_alembic_agree_on_one_line_of_versions() -> None:
    scripts = ScriptDirectory.from_config(migrate.configuration())
    line = [one.revision for one in scripts.walk_revisions()][::-1]
    assert len(scripts.get_heads()) == 1
    assert line == version.known()


def test_every_frozen_text_has_its_way_back_and_is_used() -> None:
    names = {file.name.removesuffix(".up.sql") for file in FROZEN.glob("*.up.sql")}
    assert names == {file.name.removesuffix(".down.sql") for file in FROZEN.glob("*.down.sql")}
    versions = "".join(file.read_text() for file in version.VERSIONS.glob("*.py"))
    assert {name for name in names if f'"{name}"' not in versions} == set()
