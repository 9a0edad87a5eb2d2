"""A fresh migrated SQLite file for each test: a copy of one that is migrated once a run."""

import shutil
from pathlib import Path

from migrations.upgrade import upgrade
from tests.support import run


def fresh_database(folder: Path) -> str:
    """URL of a migrated, empty database in this folder."""
    file = folder / "tidegate.db"
    shutil.copyfile(_template(), file)
    return f"sqlite:///{file}"


def _template() -> Path:
    template = run.folder() / "template.db"
    with run.only_one("sqlite"):
        if not template.exists():
            unfinished = template.with_suffix(".unfinished")
            upgrade(f"sqlite:///{unfinished}")
            unfinished.rename(template)
    return template
