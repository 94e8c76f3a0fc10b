"""Folders that somebody else filled."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_REMOVALS = 3


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as that is possible. Blocks. Follows no link.

    Folders may be read-only, as a published build's are, or nested without end, and another may be removing or still
    writing there.
    """
    for _ in range(_REMOVALS):
        with suppress(OSError):
            _remove(folder)
        if not os.path.lexists(folder):
            return


def _remove(top: Path) -> None:
    if top.is_symlink() or not top.is_dir():
        top.unlink(missing_ok=True)
        return
    waiting = ["."]
    with _opened(top) as root:
        while waiting:
            name = waiting.pop()
            with suppress(OSError), _opened(name, root) as folder:
                waiting += _emptied(folder, root)
            if name != ".":
                with suppress(OSError):
                    os.rmdir(name, dir_fd=root)
    top.rmdir()


def _emptied(folder: int, root: int) -> Iterator[str]:
    """Remove the files of a folder and move its folders up to ``root``: their new names."""
    with os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        with suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            with _opened(entry.name, folder):
                name = secrets.token_hex(16)
                os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=root)
                yield name


@contextmanager
def _opened(name: Path | str, outer: int | None = None) -> Iterator[int]:
    """A folder that this user may change from now on, whatever its mode was; never by a link. Raises OSError."""
    found = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
    try:
        itself = f"/proc/self/fd/{found}"
        Path(itself).chmod(0o700)
        folder = os.open(itself, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(found)
    try:
        yield folder
    finally:
        os.close(folder)
