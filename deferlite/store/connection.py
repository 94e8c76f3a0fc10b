"""How the database file is opened: what it must be, and the pragmas with their reasons."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from deferlite.model.errors import DiskFull, StoreError
from deferlite.store.migrations import NEWEST, migrate

APPLICATION_ID = 0x64666C74
"""``dflt``: how a database of deferlite is told from anybody else's."""

OLDEST_SQLITE = (3, 37, 0)
_STATEMENTS = 256

_EVERY_WRITER = (
    # Readers never wait for the writer, and a commit is one append.
    "PRAGMA journal_mode = WAL",
    # An acknowledged write is on disk, not in the kernel's cache: the power may fail.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Only a backup or a curious sqlite3 shell can be in the way; wait for it.
    "PRAGMA busy_timeout = 10000",
    # 32 MiB: the index pages that every enqueue and claim touches.
    "PRAGMA cache_size = -32768",
    "PRAGMA temp_store = MEMORY",
    # Fold the log back every 16 MiB and not every 4: the same index pages are then written once, not four times.
    "PRAGMA wal_autocheckpoint = 4000",
    # A burst may grow the log; afterwards the disk space is given back.
    "PRAGMA journal_size_limit = 67108864",
)
_EVERY_READER = (
    "PRAGMA query_only = ON",
    "PRAGMA busy_timeout = 10000",
    "PRAGMA cache_size = -8192",
    "PRAGMA temp_store = MEMORY",
)


def open_database(path: Path) -> sqlite3.Connection:
    """The writing connection, its schema up to date. The file is readable by its owner alone.

    Raises:
        StoreError: what the file is instead, and what to do.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: deferlite needs {needed} or later")
    _make_private(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS)
    try:
        _recognise(connection, path)
        for pragma in _EVERY_WRITER:
            connection.execute(pragma)
        migrate(connection, path)
    except sqlite3.Error as error:
        close_quietly(connection)
        raise explain(error, path) from error
    except BaseException:
        close_quietly(connection)
        raise
    return connection


def reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )
    for pragma in _EVERY_READER:
        connection.execute(pragma)
    return connection


def explain(error: sqlite3.Error, path: Path | str) -> StoreError:
    """``error`` in words that name the file and the cure."""
    text = str(error)
    if "disk is full" in text:
        return DiskFull(f"the disk of {path} is full: nothing was stored; free some space and try again")
    if "readonly" in text or "unable to open" in text:
        return StoreError(f"{path} cannot be written ({text}): check its owner, its mode and the file system")
    if "not a database" in text or "malformed" in text:
        return StoreError(f"{path} is damaged ({text}): move it away, and restore a backup in its place")
    if "locked" in text or "busy" in text:
        return StoreError(f"{path} is locked by another program ({text}): close that, and try again")
    return StoreError(f"{path}: {text}")


def close_quietly(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.close()


def _make_private(path: Path) -> None:
    try:
        # Before SQLite makes it: its log and its index of the log inherit the mode.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}): check its owner, its mode and the file system"
        ) from None


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if version > NEWEST:
            raise StoreError(
                f"{path} was written by a newer deferlite (schema {version}, this one knows {NEWEST}): "
                "install that version again, or restore the copy it made before it migrated"
            )
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application or version or tables:
        raise StoreError(f"{path} is a database of another program: give another --home, or move it away")
    # Must come before the first page is written; lets pruned history shrink the file later.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
