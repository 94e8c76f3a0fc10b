"""Copies the files of a checkout as they stand, following no link."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def copy_files(top: Path, names: Sequence[str], destination: Path) -> int:
    """Copy those of ``names`` that exist below ``top``; symlinks stay symlinks. Returns how many.

    An index can name what lies behind ``..`` or behind a folder that has become a link: such files are left out,
    since the server may read and write where the owner of the checkout may not.
    """
    destination.mkdir(parents=True)
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return sum(_copy_file(root, PurePosixPath(name), destination) for name in names)
    finally:
        os.close(root)


def _copy_file(root: int, name: PurePosixPath, destination: Path) -> bool:
    if name.is_absolute() or ".." in name.parts:
        return False
    try:
        folder = open_folder(root, name.parts[:-1])
    except OSError:
        return False
    try:
        return _copy_from(folder, name.name, destination / name)
    except FileNotFoundError:  # Gone since it was listed: an editor saves by renaming.
        return False
    finally:
        os.close(folder)


def open_folder(root: int, parts: Sequence[str]) -> int:
    """A folder below ``root``, step by step, following no link. Raises OSError."""
    folder = os.dup(root)
    for part in parts:
        outer = folder
        try:
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
        finally:
            os.close(outer)
    return folder


def _copy_from(folder: int, name: str, target: Path) -> bool:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.readlink(name, dir_fd=folder))
        return True
    if not stat.S_ISREG(status.st_mode):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy)
    target.chmod(stat.S_IMODE(status.st_mode) & 0o777 | stat.S_IRUSR)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return True
