"""What a terminal gets: foreign text as text, a line that tells what goes on, and a word when somebody leaves."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.changes import Commit
from deferlite.model.environment import EnvironmentConfig, Preview, PreviewSettings
from deferlite.model.events import BuildRequested
from deferlite.model.execution import LogLine, NewExecution
from deferlite.store import Store
from tests.unit.cli_fixtures import SPECS, STEPS, Run, publish, request, server

pytestmark = pytest.mark.anyio
DEFERLITE = str(Path(sys.executable).parent / "deferlite")
EVIL = "\x1b[31m[bold]x[/bold]\x1b[0m\x1b]0;t\x07\x1b[2J\x9b2J\u202e\ty"


async def hostile(store: Store) -> tuple[str, str]:
    """Foreign text wherever some can be; a build and an execution with it."""
    config = EnvironmentConfig(repository="/srv/shop", preview=PreviewSettings(branches=("*",)))
    await store.environments.apply("production", config, "production.toml")
    asked = await store.builds.request("production", commit="c" * 40, branch=EVIL, message=EVIL, trigger=Trigger.COMMIT)
    commits = (Commit(id="e" * 40, subject=EVIL, author=EVIL),)
    await store.executions.enqueue("production", [NewExecution(function_name="hello", arguments=json.dumps([EVIL]))])
    await publish(store, SPECS[1:], build_id=asked.id, commits=commits, builder=EVIL)
    failed = await request(store)
    await store.builds.advance(failed, BuildState.STARTED)
    await store.logs.append_build(failed, [LogLine(0, "stdout", EVIL)])
    await store.builds.fail(failed, f"{EVIL}\n{EVIL}")
    await store.environments.apply("preview", config, EVIL, Preview(of="production", branch=EVIL))
    await store.environments.note("production", f"{EVIL}\n{EVIL}")
    await store.environments.report("preview", EVIL)
    return asked.id, failed


COMMANDS = (
    ("environments",),
    ("environments", "--json"),
    ("builds", "production"),
    ("builds", "show", "production#2"),
    ("builds", "show", "production#3"),
    ("builds", "show", "production#2", "--json"),
    ("builds", "logs", "production#3"),
    ("builds", "logs", "production#3", "--json"),
    ("executions", "production"),
    ("functions", "production"),
)


async def test_foreign_text_is_text(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        await hostile(store)
        for words in COMMANDS:
            result = await run(*words)
            text = result.stdout + result.stderr
            odd = {char for char in text if not char.isprintable() and char not in "\n\t"}
            assert not odd, (words, odd)
            if words not in (("executions", "production"), ("functions", "production")):
                assert "[bold]x[/bold]" in text, words
        shown = json.loads((await run("builds", "show", "production#2", "--json")).stdout)
        assert shown["message"] == EVIL, "for programs it is what it was"


@contextmanager
def terminal(*words: str, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal of its own, and the other end of that."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([DEFERLITE, *words, "--home", str(home)], stdin=theirs, stdout=theirs, stderr=theirs) as done:
        os.close(theirs)
        try:
            yield done, ours
        finally:
            done.kill()
            os.close(ours)


def piped(*words: str, home: Path) -> subprocess.Popen[str]:
    command = [DEFERLITE, *words, "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(terminal: int, pattern: str) -> str:
    """What came, as far as ``pattern`` or to the end."""
    text = ""
    while not re.search(pattern, text):
        try:
            text += os.read(terminal, 65536).decode()
        except OSError:
            break
    return text


async def test_a_log_keeps_its_colours_on_a_terminal_and_a_table_has_none(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, _):
        await hostile(store)

        def watch(*words: str) -> str:
            with terminal(*words, home=tmp_path) as (_, ours):
                return read_until(ours, "(?!)")

        log = await anyio.to_thread.run_sync(watch, "builds", "logs", "production#3")
        assert "\x1b[31m[bold]x[/bold]\x1b[0m" in log
        assert not re.search(r"\x1b\[2J|\x1b\]|\x9b|\u202e", log)
        table = await anyio.to_thread.run_sync(watch, "builds", "production")
        assert "[bold]x[/bold]" in table and "\x1b[31m[bold]" not in table


@contextmanager
def asked(bus: Bus) -> Iterator[AsyncIterator[str]]:
    with bus.subscribe(BuildRequested) as requested:

        async def ids() -> AsyncIterator[str]:
            while True:
                yield (await requested.receive()).build_id

        yield ids()


async def test_a_terminal_tells_which_stage_runs_and_since_when(tmp_path: Path) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, _):
        with asked(bus) as ids, terminal("build", "production", "--wait", home=tmp_path) as (done, ours):
            id = await anext(ids)
            waits = await anyio.to_thread.run_sync(read_until, ours, "waits for its turn")
            assert "waits for its turn" in waits
            for state in STEPS[:3]:
                await store.builds.advance(id, BuildState(state))
            told = await anyio.to_thread.run_sync(read_until, ours, r"installing, \d")
            assert re.search(r"\r\x1b\[K\x1b\[2minstalling, [\d.]+ m?s", told)
            moment = (await store.builds.get(id)).steps[-1].started_at
            await store.logs.append_build(id, [LogLine(moment, "stdout", "a line")])
            line = await anyio.to_thread.run_sync(read_until, ours, "a line")
            assert re.search(r"\r\x1b\[K[^\r\n]*a line", line), "the line gives way"
            await store.builds.fail(id, "no")
            end = await anyio.to_thread.run_sync(read_until, ours, "(?!)")
            assert "failed: no" in end
            assert await anyio.to_thread.run_sync(done.wait) == 1


async def test_who_stops_waiting_is_told_that_the_build_goes_on(tmp_path: Path) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, _):
        with asked(bus) as ids, terminal("build", "production", "--wait", home=tmp_path) as (done, ours):
            id = await anext(ids)
            await anyio.to_thread.run_sync(read_until, ours, "waits for its turn")
            done.send_signal(signal.SIGINT)
            text = await anyio.to_thread.run_sync(read_until, ours, "(?!)")
            assert await anyio.to_thread.run_sync(done.wait) == 1
            assert "build #2 of production goes on" in text and "build cancel production#2" in text
            assert "Traceback" not in text
        assert (await store.builds.get(id)).finished_at is None


async def test_a_server_that_stops_while_somebody_waits(tmp_path: Path) -> None:
    bus = Bus()
    with asked(bus) as ids:
        async with server(tmp_path, bus):
            done = piped("build", "production", "--wait", "--json", home=tmp_path)
            await anext(ids)
            assert done.stderr is not None
            await anyio.to_thread.run_sync(done.stderr.readline)
        stdout, stderr = await anyio.to_thread.run_sync(done.communicate)
    assert (done.returncode, stdout) == (3, "")
    assert "stopped before build #2 of production had ended" in stderr and "Traceback" not in stderr


async def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, _):
        id = await request(store)
        await store.logs.append_build(id, [LogLine(0, "stdout", "x" * 100)] * 5000)
        await store.builds.fail(id, "no")
        for words in (f"builds logs {id}", f"builds logs {id} --json", "builds production", "environments --json"):
            command = f"{DEFERLITE} {words} --home {tmp_path} | true"
            done = await anyio.run_process(["bash", "-c", command], check=False)
            assert done.stderr == b"", words


async def test_lists_of_an_environment_called_as_a_word(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        for name in ("cancel", "show", "logs"):
            await store.environments.apply(name, EnvironmentConfig(repository="/srv/shop"), f"{name}.toml")
            assert (await run("builds", name)).exit_code == 0
            assert f"{name} has no build to repeat" in (await run("build", name)).stderr
            again = await run("build", "cancel", name)
            assert (again.exit_code, again.stdout) == (1, "")
            assert f"{name} has no build that runs or waits" in again.stderr


async def test_a_build_of_another_environment_is_refused(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        await store.environments.apply("staging", EnvironmentConfig(repository="/srv/shop"), "staging.toml")
        for words in (("rollback", "staging", "production#1"), ("promote", "staging", "production#1")):
            result = await run(*words)
            assert (result.exit_code, result.stdout) == (1, ""), words
            assert "staging" in result.stderr
        assert (await store.environments.get("staging")).live_build_id is None


async def failing(run: Run, *words: str) -> str:
    result = await run(*words)
    assert result.exit_code == 1
    return str(result.stderr)


async def test_an_error_of_the_server_is_text(tmp_path: Path) -> None:
    async with server(tmp_path) as (_, run):
        said = await failing(run, "executions", "production", "--after", EVIL)
        assert "\x1b" not in said and "\u202e" not in said
