"""Copies the files of a checkout as they stand, following no link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from anyio.from_thread import check_cancelled

from deferlite.sandbox.files import open_plain

PIECE = 16 * 1024 * 1024
"""Bytes that are copied between two looks at whether the build still wants them."""

_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EINVAL)
"""The file is no longer what it was when it was listed: an editor saves by renaming."""


def copy_files(top: Path, names: Sequence[str], destination: Path) -> int:
    """Copy those of ``names`` that exist below ``top``; symlinks stay symlinks. Returns how many. For a worker thread.

    The owner of the checkout may change it meanwhile, and an index can name what lies behind ``..`` or behind a link:
    such files are left out, since the server may read and write where the owner may not.
    """
    destination.mkdir(parents=True)
    with folder_below(top) as source, folder_below(destination) as target:
        return sum(_copy_file(source, target, PurePosixPath(name)) for name in names)


def _copy_file(source: int, target: int, name: PurePosixPath) -> bool:
    check_cancelled()
    if name.is_absolute() or ".." in name.parts:
        return False
    try:
        with folder_below(source, name.parts[:-1]) as outer, folder_below(target, name.parts[:-1], make=True) as inner:
            return _copy_from(outer, inner, name.name)
    except OSError as error:
        if error.errno not in _CHANGED:
            raise
        return False


@contextmanager
def folder_below(root: Path | int, parts: Sequence[str] = (), *, make: bool = False) -> Iterator[int]:
    """A folder below ``root``, step by step, following no link; with ``make`` it is made. Raises OSError."""
    folder = os.dup(root) if isinstance(root, int) else os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            outer, folder = folder, os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(outer)
        yield folder
    finally:
        os.close(folder)


def _copy_from(outer: int, inner: int, name: str) -> bool:
    status = os.stat(name, dir_fd=outer, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=outer), name, dir_fd=inner)
        return True
    with open_plain(name, at=outer) as source:
        mode = stat.S_IMODE(status.st_mode) & 0o777 | stat.S_IRUSR
        copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=inner)
        try:
            _pour(source.fileno(), copy, status.st_size)
            os.fchmod(copy, mode)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(copy)
    return True


def _pour(source: int, target: int, size: int) -> None:
    """The first ``size`` bytes, since a file that grows has no end; holes stay holes."""
    at, end = _data(source, 0, size)
    while at < size:
        check_cancelled()
        os.lseek(target, at, os.SEEK_SET)
        at, end = _data(source, at + os.sendfile(target, source, at, min(end - at, PIECE)), size)
    os.ftruncate(target, size)


def _data(source: int, at: int, size: int) -> tuple[int, int]:
    """Where the next bytes that are no hole begin and end; ``size`` where none follow."""
    try:
        start = os.lseek(source, at, os.SEEK_DATA)
        return start, min(os.lseek(source, start, os.SEEK_HOLE), size)
    except OSError:
        return size, size
