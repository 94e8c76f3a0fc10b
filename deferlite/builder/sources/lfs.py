"""Files kept by Git LFS: a commit holds pointers to them. git-lfs itself is never run."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
from anyio.from_thread import check_cancelled

from deferlite.model.errors import BuildError
from deferlite.model.words import plural
from deferlite.sandbox.files import open_plain
from deferlite.sandbox.git import plain

MOST_NAMED = 10
_LARGEST = 1024
"""Bytes of a pointer, by its specification."""

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)


class LargeFiles(msgspec.Struct, frozen=True):
    """Paths relative to the tree."""

    placed: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()
    """Those whose content is not on this machine."""

    def told(self) -> Iterator[str]:
        """Lines for the build's log."""
        if self.placed:
            yield f"taken from the repository's own copies: {plural(len(self.placed), 'file')} kept by Git LFS"
        if self.pointers:
            more = len(self.pointers) - MOST_NAMED
            names = ", ".join(map(plain, self.pointers[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
            yield f"files kept by Git LFS are pointers: {names} ({len(self.pointers)})"


def place_large_files(tree: Path, git_dirs: Sequence[Path]) -> LargeFiles:
    """Replace the pointers below ``tree`` by what they point to, as far as ``git_dirs`` hold it. For a worker thread.

    Raises:
        BuildError: folders are nested too deep for anybody to walk through them.
    """
    try:
        return _placed(tree, git_dirs) if _has_large_files(tree) else LargeFiles()
    except RecursionError:
        raise BuildError("the repository's folders are nested hundreds deep: nothing can read such a tree") from None


def _has_large_files(tree: Path) -> bool:
    return any(b"filter=lfs" in _start(Path(folder) / ".gitattributes", 64 * 1024) for folder, _, _ in os.walk(tree))


def _placed(tree: Path, git_dirs: Sequence[Path]) -> LargeFiles:
    placed: list[str] = []
    pointers: list[str] = []
    for path in _small_files(tree):
        found = _POINTER.fullmatch(_start(path, _LARGEST))
        if found is not None:
            there = any(_place(path, git_dir, found[1].decode(), int(found[2])) for git_dir in git_dirs)
            (placed if there else pointers).append(path.relative_to(tree).as_posix())
    return LargeFiles(tuple(sorted(placed)), tuple(sorted(pointers)))


def _small_files(tree: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _LARGEST:
                yield path


def _start(path: Path, size: int) -> bytes:
    """The first bytes of a plain file; nothing of what is none."""
    try:
        with open_plain(path) as file:
            return file.read(size)
    except OSError:
        return b""


def _place(pointer: Path, git_dir: Path, digest: str, size: int) -> bool:
    """Put the content in the place of its pointer, if it is there and is what the pointer says."""
    try:
        source = open_plain(git_dir / "lfs" / "objects" / digest[:2] / digest[2:4] / digest)
    except OSError:
        return False
    with source:
        if os.fstat(source.fileno()).st_size != size:
            return False
        # Under a name that no file of the tree has.
        with tempfile.NamedTemporaryFile(dir=pointer.parent, delete=False) as copy:
            partial = Path(copy.name)
            good = _poured(source, copy) == digest
    if not good:
        partial.unlink()
        return False
    partial.chmod(pointer.stat().st_mode)
    partial.replace(pointer)
    return True


def _poured(source: IO[bytes], target: IO[bytes]) -> str:
    """The digest of what was copied."""
    said = hashlib.sha256()
    while chunk := source.read(1024 * 1024):
        check_cancelled()
        said.update(chunk)
        target.write(chunk)
    return said.hexdigest()
