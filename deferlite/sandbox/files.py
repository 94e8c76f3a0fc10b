"""Files that somebody else made: one may be a pipe that nobody writes to, endless, or anything but text."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

LARGEST_SECRET = 120 * 1024
"""Bytes: the kernel hands no longer variable to a program."""


def open_plain(path: Path | str, *, at: int | None = None, follow: bool = False) -> BinaryIO:
    """A plain file, open for reading, without ever waiting for one. ``at``: the folder that ``path`` is relative to.

    Raises:
        OSError: it cannot be opened, is something else, or a link and ``follow`` is not said.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def secret_text(given: str | Mapping[str, str]) -> str:
    """A secret of an environment's file: text, or ``{"file": path}``, whose last line end is left out. Blocks.

    Raises:
        ValueError: the file cannot be read as text; the message names it and the reason.
    """
    if isinstance(given, str):
        return given
    path = given["file"]
    try:
        with open_plain(path, follow=True) as file:
            content = file.read(LARGEST_SECRET + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not UTF-8 text") from None
    if len(content) > LARGEST_SECRET:
        raise ValueError(f"cannot read {path}: it holds more than {LARGEST_SECRET >> 10} KiB")
    if "\0" in text:
        raise ValueError(f"cannot read {path}: it holds a NUL character")
    return text
