"""The commands of docs/operating.md, so that tests type what an operator reads."""

import re
from pathlib import Path

from tests.support.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "operating.md"


def commands(heading: str, **folders: Path) -> list[str]:
    """The commands under a heading, without what they answer; in place of its folders these."""
    _, *parts = re.split(r"^##+ (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = dict(zip(parts[::2], parts[1::2], strict=True))[heading]
    blocks = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    found = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert found, f"no command under {heading!r}"
    names = re.compile(rf"(?<![\w/-])({'|'.join(folders)})\b")
    return [names.sub(lambda name: str(folders[name[1]]), command) for command in found]
