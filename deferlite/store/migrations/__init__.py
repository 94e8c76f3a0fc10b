"""The schema is the migrations applied: ``0001.sql``, ``0002.sql``, … in order, each in one transaction."""

from __future__ import annotations

import os
import sqlite3
from importlib import resources
from pathlib import Path

_SCRIPTS = tuple(
    entry.read_text("utf-8")
    for entry in sorted(resources.files(__name__).iterdir(), key=lambda entry: entry.name)
    if entry.name.endswith(".sql")
)
NEWEST = len(_SCRIPTS)
"""``user_version`` of a database that is up to date."""


def migrate(connection: sqlite3.Connection, path: Path, scripts: tuple[str, ...] = _SCRIPTS) -> None:
    """Bring the schema up to date; a database that has content is copied beside itself first."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if 0 < version < len(scripts):
        _copy(connection, path.with_name(f"{path.name}.schema-{version}"))
    for number, script in enumerate(scripts[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    # VACUUM INTO accepts an empty file, and keeps its mode.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    connection.execute("VACUUM INTO ?", (str(target),))
