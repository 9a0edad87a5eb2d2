"""Every Python file of the program can be read in one sitting."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("client", "config", "demo", "embedded", "migrations", "tasks", "tidegate", "webapp")
MOST_LINES = 300


def test_no_file_has_more_than_300_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {path.split("/")[0] for path in lengths} == set(FOLDERS), "there is a folder without Python"
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}
