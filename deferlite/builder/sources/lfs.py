"""Files kept by Git LFS: a commit holds pointers to them. git-lfs itself is never run."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from deferlite.sandbox.git import plain

MOST_NAMED = 10
_LARGEST = 1024
"""Bytes of a pointer, by its specification."""

_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize \d+\n")


class LargeFiles(msgspec.Struct, frozen=True):
    """Paths relative to the tree."""

    placed: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()
    """Those whose content is not on this machine."""

    def told(self) -> Iterator[str]:
        """Lines for the build's log."""
        if self.placed:
            yield f"{len(self.placed)} files kept by Git LFS were taken from the repository's own copies"
        if self.pointers:
            more = len(self.pointers) - MOST_NAMED
            names = ", ".join(map(plain, self.pointers[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
            yield f"files kept by Git LFS are pointers: {names} ({len(self.pointers)})"


def place_large_files(tree: Path, git_dirs: Sequence[Path]) -> LargeFiles:
    """Replace the pointers below ``tree`` by what they point to, as far as ``git_dirs`` hold it. Blocks."""
    if not any(b"filter=lfs" in _start(Path(folder) / ".gitattributes", 64 * 1024) for folder, _, _ in os.walk(tree)):
        return LargeFiles()
    placed: list[str] = []
    pointers: list[str] = []
    for path in _small_files(tree):
        found = _POINTER.fullmatch(_start(path, _LARGEST))
        if found is not None:
            there = any(_place(path, git_dir, found[1].decode()) for git_dir in git_dirs)
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
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""


def _place(pointer: Path, git_dir: Path, digest: str) -> bool:
    """Put the content in the place of its pointer, if it is there and is what the pointer says."""
    kept = git_dir / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    partial = pointer.with_name(f".{digest}.partial")
    try:
        descriptor = os.open(kept, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as source:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _copied(source.fileno(), partial, digest):
            partial.unlink(missing_ok=True)
            return False
    partial.chmod(pointer.stat().st_mode)
    partial.replace(pointer)
    return True


def _copied(source: int, target: Path, digest: str) -> bool:
    said = hashlib.sha256()
    with target.open("xb") as copy:
        while chunk := os.read(source, 1024 * 1024):
            said.update(chunk)
            copy.write(chunk)
    return said.hexdigest() == digest
