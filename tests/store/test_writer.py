"""The writer: one commit for many, each operation for itself, events after the commit."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from deferlite.bus import Bus
from deferlite.model.clock import ManualClock
from deferlite.model.errors import Conflict, DiskFull, StoreError
from deferlite.model.events import EnvironmentChanged
from deferlite.store.connection import open_database
from deferlite.store.writer import Transaction, Writer

pytestmark = pytest.mark.anyio


class Desk:
    """A writer over a scratch table, and what was heard on its bus."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.bus = Bus()
        self.writer = Writer(connection, path, ManualClock(), self.bus)

    @classmethod
    async def open(cls, path: Path) -> Desk:
        return cls(path, await anyio.to_thread.run_sync(_open_with_table, path))

    def notes(self) -> list[str]:
        reader = sqlite3.connect(self.path)
        try:
            return [text for (text,) in reader.execute("SELECT text FROM notes ORDER BY text")]
        finally:
            reader.close()


def _open_with_table(path: Path) -> sqlite3.Connection:
    connection = open_database(path)
    connection.execute("CREATE TABLE notes (text TEXT NOT NULL UNIQUE) STRICT")
    return connection


@pytest.fixture
async def desk(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Desk]:
    desk = await Desk.open(tmp_path / "deferlite.db")
    yield desk
    await desk.writer.close()


def write(text: str):  # type: ignore[no-untyped-def]
    def operation(transaction: Transaction) -> str:
        transaction.run("INSERT INTO notes VALUES (?)", (text,))
        transaction.publish(EnvironmentChanged(environment=text))
        if text.startswith("bad"):
            raise Conflict(text)
        return text

    return operation


async def test_the_answer_comes_after_the_commit(desk: Desk) -> None:
    assert await desk.writer.submit(write("one")) == "one"
    assert desk.notes() == ["one"]


async def test_one_that_fails_takes_nothing_of_the_others_with_it(desk: Desk) -> None:
    heard: list[str] = []
    failed: list[str] = []

    async def submit(text: str) -> None:
        try:
            await desk.writer.submit(write(text))
        except (Conflict, StoreError):
            failed.append(text)

    with desk.bus.listening(EnvironmentChanged, lambda event: heard.append(event.environment)):
        async with anyio.create_task_group() as group:
            for text in ("a", "bad", "b", "a", "c"):
                group.start_soon(submit, text)
    assert desk.notes() == heard == ["a", "b", "c"]
    assert failed == ["bad", "a"]


async def test_operations_that_wait_together_are_committed_together(desk: Desk) -> None:
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    desk.connection.set_trace_callback(count)
    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(desk.writer.submit, write(f"{number:03}"))
    assert len(desk.notes()) == 200
    assert commits < 20


@pytest.mark.blocks
async def test_events_are_heard_once_what_they_say_can_be_read(desk: Desk) -> None:
    seen: list[list[str]] = []
    with desk.bus.listening(EnvironmentChanged, lambda event: seen.append(desk.notes())):
        await desk.writer.submit(write("one"))
    assert seen == [["one"]]


async def test_a_cancelled_caller_does_not_take_back_what_others_hear(desk: Desk) -> None:
    heard = anyio.Event()
    with desk.bus.listening(EnvironmentChanged, lambda event: heard.set()):
        async with anyio.create_task_group() as group:
            group.start_soon(desk.writer.submit, write("one"))
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            await heard.wait()
    assert desk.notes() == ["one"]


async def test_a_listener_that_fails_harms_nobody(desk: Desk) -> None:
    def fail(event: EnvironmentChanged) -> None:
        raise RuntimeError("listener")

    with desk.bus.listening(EnvironmentChanged, fail):
        assert await desk.writer.submit(write("one")) == "one"


async def test_a_full_disk_refuses_the_whole_commit_and_the_writer_goes_on(desk: Desk) -> None:
    (pages,) = desk.connection.execute("PRAGMA page_count").fetchone()
    desk.connection.execute(f"PRAGMA max_page_count = {pages + 8}")
    errors: list[StoreError] = []

    async def submit(text: str) -> None:
        try:
            await desk.writer.submit(write(text))
        except StoreError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(submit, "small")
        group.start_soon(submit, "large" * 100_000)
        group.start_soon(submit, "tiny")
    assert {type(error) for error in errors} == {DiskFull}
    assert len(errors) + len(desk.notes()) == 3
    assert "free some space" in str(errors[0])
    desk.connection.execute("PRAGMA max_page_count = 1073741823")
    await desk.writer.submit(write("again"))
    assert "again" in desk.notes()


async def test_closing_writes_what_waits_and_refuses_more(tmp_path: Path) -> None:
    desk = await Desk.open(tmp_path / "deferlite.db")
    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(desk.writer.submit, write(f"{number:02}"))
        await anyio.lowlevel.checkpoint()
        await desk.writer.close()
    assert len(desk.notes()) == 50
    with pytest.raises(StoreError, match="closed"):
        await desk.writer.submit(write("late"))
