"""The two trees that are compared. The processes of each run its own code and nothing of the other's."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import REPOSITORY

_ON_PATH = Path(__file__).parent / "on_path"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A checkout. `name`: as the table calls it."""

    name: str
    folder: Path

    def environment(self, data: Path, url: str, **settings: str) -> dict[str, str]:
        """Of a process of this tree, which keeps its files in `data` and its rows at `url`."""
        operations = data / "operations.toml"
        operations.touch()
        own = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        return {
            **own,
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(_ON_PATH)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TIDEGATE_DATA": str(data),
            "TIDEGATE_DATABASE_URL": url,
            "TIDEGATE_OPERATIONS_FILE": str(operations),
            "TIDEGATE_OPERATIONS": "price_operations",
            **settings,
        }

    def migrate(self, environment: Mapping[str, str]) -> None:
        """Makes the tables, as this tree knows them."""
        url = environment["TIDEGATE_DATABASE_URL"]
        code = "import sys; from migrations.upgrade import upgrade; upgrade(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, url], cwd=self.folder, env=environment, check=True)


def this_tree() -> Tree:
    """As it lies here, with what is not committed."""
    return Tree(name="this tree", folder=REPOSITORY)


def tree_of(revision: str, folder: Path) -> Tree:
    """The files of a commit, in this new folder."""
    packed = subprocess.run(["git", "archive", revision], cwd=REPOSITORY, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    words = ["git", "describe", "--always", "--abbrev=8", revision]
    name = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    return Tree(name=name, folder=folder)
