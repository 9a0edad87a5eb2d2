"""The data folder is its owner's alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.data_folder import make_private, write_private
from tidegate.errors import ConfigurationError


@pytest.fixture(autouse=True)
def wide_umask() -> Iterator[None]:
    """What is made here can be read by all unless somebody sees to it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    """Who may do what with it."""
    return path.stat().st_mode & 0o777


def test_a_new_one_is_private_and_nothing_is_said(tmp_path: Path) -> None:
    data = tmp_path / "a" / "data"
    assert make_private(data) == []
    assert mode(data) == 0o700


def test_one_of_before_is_closed_with_all_that_is_ours_in_it_and_that_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ours = ("tidegate.db", "tidegate.db-wal", "webhook.key", "run/web.pid", "broker/valkey-8/appendonlydir/1.aof")
    for name in (*ours, "letters.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("")
    script = data / "run" / "script"
    script.touch()
    script.chmod(0o755)

    assert make_private(data) == [f"{data} could be read by others on this machine; now it is yours alone"]

    assert {name: mode(data / name) for name in ours} == dict.fromkeys(ours, 0o600)
    assert (mode(data), mode(data / "broker" / "valkey-8"), mode(script)) == (0o700, 0o700, 0o700)
    assert mode(data / "letters.txt") == 0o644, "not ours"
    assert make_private(data) == []


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.touch()
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "tidegate.db").symlink_to(elsewhere)

    assert make_private(data) == []
    assert mode(elsewhere) == 0o644


def test_a_folder_that_is_everybodys_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    with pytest.raises(ConfigurationError, match="TIDEGATE_DATA: everybody may write to"):
        make_private(shared)

    assert shared.stat().st_mode & 0o7777 == 0o1777


def test_a_folder_that_cannot_be_made_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"TIDEGATE_DATA: .* can't be made"):
        make_private(tmp_path / "file" / "data")


def test_a_private_file_is_private_even_where_a_wide_one_was(tmp_path: Path) -> None:
    path = tmp_path / "run" / "secret"
    path.parent.mkdir()
    for old in (path, path.with_name("secret.new")):
        old.write_text("old")

    write_private(path, "new")

    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert list(path.parent.iterdir()) == [path]
