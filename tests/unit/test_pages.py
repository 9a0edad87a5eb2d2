"""The pages for people: README is short, every page can be found, and no link leads nowhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(DOCS.glob("*.md")), REPOSITORY / "client" / "README.md"]


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> Iterator[str]:
    """Where it leads within the repository: `docs/api.md#errors`, `#keys`."""
    yield from (link for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)) if "://" not in link)


def anchors_of(page: Path) -> set[str]:
    """What GitHub makes of its headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors_of(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("index", [REPOSITORY / "README.md", DOCS / "README.md"], ids=["README", "docs/README"])
def test_both_indexes_lead_to_every_page(index: Path) -> None:
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in links_of(index)}
    assert [page.name for page in DOCS.glob("*.md") if page.resolve() not in reached | {index.resolve()}] == []


def test_readme_can_be_read_in_a_few_minutes() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
