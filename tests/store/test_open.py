"""Opening: what the file must be, who may use it, and how it is brought up to date."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import pytest

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.errors import DiskFull, StoreError
from deferlite.model.function import FunctionSpec, Manifest
from deferlite.store import Store, migrations
from deferlite.store.connection import APPLICATION_ID, open_database
from deferlite.store.lock import ServerLock
from deferlite.store.migrations import NEWEST, migrate

pytestmark = pytest.mark.anyio


async def open_store(path: Path) -> Store:
    return await Store.open(path, ManualClock(), Bus())


def pragma(path: Path, name: str) -> object:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


async def test_a_new_database_is_marked_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    store = await open_store(path)
    files = [path, path.with_name("deferlite.db-wal"), path.with_name("deferlite.db.lock")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    await store.close()
    assert pragma(path, "application_id") == APPLICATION_ID
    assert pragma(path, "user_version") == NEWEST
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "auto_vacuum") == 2


async def test_a_database_that_others_may_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    await (await open_store(path)).close()
    path.chmod(0o644)
    await (await open_store(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.blocks
async def test_every_write_is_synchronous(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "deferlite.db")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    connection.close()


async def test_a_second_server_is_told_the_first_ones_pid(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "deferlite.db")
    with pytest.raises(StoreError, match=rf"another deferlite serves this home \(pid {os.getpid()}\)"):
        await open_store(tmp_path / "deferlite.db")
    await store.close()
    await (await open_store(tmp_path / "deferlite.db")).close()


def test_the_lock_of_a_killed_server_is_free(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    script = (
        "import pathlib, sys, time\nfrom deferlite.store.lock import ServerLock\n"
        f"lock = ServerLock.take(pathlib.Path({str(path)!r}))\nprint('held', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreError, match=f"pid {holder.pid}"):
            ServerLock.take(path)
        holder.kill()
    ServerLock.take(path).release()


async def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of another program"):
        await open_store(path)
    assert path.read_bytes() == before


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    await (await open_store(path)).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {NEWEST + 1}")
    connection.close()
    with pytest.raises(StoreError, match=f"newer deferlite .schema {NEWEST + 1}, this one knows {NEWEST}"):
        await open_store(path)


async def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    path.write_bytes(b"not at all a database " * 100)
    with pytest.raises(StoreError, match=r"is damaged .*restore a backup"):
        await open_store(path)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/deferlite\.db\.lock: No such file"):
        await open_store(tmp_path / "missing" / "deferlite.db")


async def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "deferlite.db").mkdir()
    with pytest.raises(StoreError, match=r"deferlite\.db cannot be written"):
        await open_store(tmp_path / "deferlite.db")
    # The refusal lets go of the lock.
    (tmp_path / "deferlite.db").rmdir()
    await (await open_store(tmp_path / "deferlite.db")).close()


def test_a_migration_keeps_a_copy_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    connection = sqlite3.connect(path, isolation_level=None)
    first, second = "CREATE TABLE notes (text TEXT) STRICT;", "ALTER TABLE notes ADD COLUMN author TEXT;"
    migrate(connection, path, (first,))
    connection.execute("INSERT INTO notes VALUES ('kept')")
    migrate(connection, path, (first, second))
    assert connection.execute("SELECT * FROM notes").fetchall() == [("kept", None)]
    connection.close()
    copy = tmp_path / "deferlite.db.schema-1"
    assert pragma(copy, "user_version") == 1
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deferlite.db", "deferlite.db.schema-1"]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    connection = sqlite3.connect(path, isolation_level=None)
    first = "CREATE TABLE notes (text TEXT) STRICT;"
    migrate(connection, path, (first,))
    with pytest.raises(sqlite3.Error):
        migrate(connection, path, (first, "CREATE TABLE more (text TEXT); CREATE TABLE notes (text TEXT);"))
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("notes",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "deferlite.db")
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.environments.retire("shop")
    with pytest.raises(StoreError, match="closed"):
        await store.environments.list()


def test_disk_full_is_an_error_of_its_own() -> None:
    assert issubclass(DiskFull, StoreError)


def older_database(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, path, (Path(migrations.__file__).with_name("0001.sql").read_text(),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.executescript(
        """
        INSERT INTO environments (name, state, config, source, created_at, updated_at)
        VALUES ('shop', 'active', '{"repository": "/r"}', 'shop.toml', 1, 1);
        INSERT INTO builds (id, environment, number, state, build_trigger, config, manifest, created_at, started_at,
                            finished_at)
        VALUES ('b', 'shop', 1, 'succeed', 'commit', '{"repository": "/r"}',
                '{"runtime": "python", "interpreter": "", "modules": [], "functions": []}', 1, 1, 1);
        UPDATE environments SET live_build_id = 'b';
        INSERT INTO functions (id, environment, name, spec, options, active)
        VALUES ('f', 'shop', 'send', '{"name": "send", "module": "m", "attribute": "send", "is_async": false}', '{}',
                1);
        INSERT INTO executions (id, environment, function_id, function_name, state, ready, scheduled_at, created_at,
                                updated_at, arguments, keyword_arguments)
        VALUES ('e', 'shop', 'f', 'send', 'created', 1, 1, 1, 1, '[]', '{}');
        """
    )
    connection.close()


async def test_what_an_older_deferlite_left_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "deferlite.db"
    await anyio.to_thread.run_sync(older_database, path)
    store = await open_store(path)
    try:
        (build,) = await store.builds.list("shop")
        assert (build.live, build.held, build.changes, build.findings) == (True, False, None, ())
        renamed = await store.builds.request("shop", commit=None, branch=None, message="", trigger=Trigger.COMMIT)
        for state in list(BuildState)[1:7]:
            await store.builds.advance(renamed.id, state)
        spec = FunctionSpec(name="mail", module="m", attribute="mail", is_async=False, aliases=("send",))
        manifest = Manifest(runtime="python", interpreter="", modules=(), functions=(spec,))
        await store.builds.publish(renamed.id, manifest)
        assert (await store.executions.get("shop", "e")).function_name == "mail"
    finally:
        await store.close()
