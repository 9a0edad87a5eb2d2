"""Keeps the data folder private (mode 700): jobs' inputs and results lie in it, and keys that make secrets."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tidegate.errors import ConfigurationError

PRIVATE = 0o077
"""The umask that gives nothing to group and others."""
# Our own files and folders in it. Others are not changed; the folder's mode keeps everybody out of them.
_FILES = ("tidegate.db*", "*.key", "sample-arrivals.jsonl")
_FOLDERS = ("run", "broker")


def make_private(data: Path) -> list[str]:
    """Makes the folder if it is missing; removes the rights of group and others on it and on our files in it.

    Returns notes for the user. Raises ConfigurationError when it can't be made, or is everybody's as /tmp is.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = data.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"TIDEGATE_DATA: {data} can't be made ({error.strerror})") from None
    if mode & stat.S_ISVTX and mode & stat.S_IWOTH:
        raise ConfigurationError(f"TIDEGATE_DATA: everybody may write to {data}; name a folder of its own")
    changed = [path for path in (data, *_ours(data)) if _tighten(path)]
    if data.stat().st_mode & PRIVATE:
        return [f"{data} can be read by others on this machine, and its mode can't be changed"]
    return [f"{data} could be read by others on this machine; now it is yours alone"] if changed else []


def write_private(path: Path, text: str) -> None:
    """Writes a file atomically that only its owner may read; makes its folder if it is missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # a leftover may have another mode
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)


def _ours(data: Path) -> Iterator[Path]:
    for pattern in _FILES:
        yield from data.glob(pattern)
    for name in _FOLDERS:
        yield data / name
        yield from (data / name).rglob("*")


def _tighten(path: Path) -> bool:
    """Removes the rights of group and others; whether there were any and there are none now."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & PRIVATE:
            return False
        path.chmod(stat.S_IMODE(mode) & ~PRIVATE)
    except OSError:  # it went, or is somebody else's
        return False
    return not path.stat().st_mode & PRIVATE
