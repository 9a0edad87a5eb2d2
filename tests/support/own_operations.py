"""docs/your-own-operations.md, whose commands tests type, and the template that it copies."""

import re
import shutil
import sysconfig
import venv
from pathlib import Path

from tests.support.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "your-own-operations.md"
TEMPLATE = REPOSITORY / "docs" / "your-own-operations"
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "data", "backups", "secrets", "*.whl")


def commands(heading: str) -> list[str]:
    """The blocks of commands under a heading, each as it is typed."""
    _, *parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = dict(zip(parts[::2], parts[1::2], strict=True))[heading]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def with_a_queue(folder: Path) -> None:
    """Declares the queue `gpu` in a copy of the template, and takes the # away before its worker in `stack.yaml`."""
    with (folder / "operations.toml").open("a", encoding="utf-8") as operations:
        operations.write('\n[queues.gpu]\npool = "processes"\n')
    stack = folder / "stack.yaml"
    before, worker, after = re.split(
        r"((?:^  # .*worker-gpu:\n)(?:^  #   .*\n)+)", stack.read_text(), flags=re.MULTILINE
    )
    stack.write_text(before + worker.replace("  # ", "  ") + after)


def locked_versions() -> str:
    """The versions of requirements.txt, as constraints for pip."""
    text = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^[a-z0-9-]+==[^\\]+", text, re.MULTILINE))


def checkout(folder: Path) -> Path:
    """A copy of the source with a `.venv` of its own, which has what that of the tests has, as `make` would install it.

    What is installed into it goes nowhere else.
    """
    source = folder / "tidegate"
    shutil.copytree(REPOSITORY, source, ignore=NOT_COPIED)
    environment = source / ".venv"
    venv.create(environment, with_pip=False, symlinks=True)
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n{source / 'client'}\n")
    script = environment / "bin" / "tidegate"
    script.write_text(f'#!/bin/sh\nexec {environment}/bin/python -m tidegate_client "$@"\n')
    script.chmod(0o755)
    (environment / ".runtime").touch()
    return source
