"""Builds from the command line: asked for and watched, cancelled, rolled back, promoted, shown."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from click.testing import Result

from deferlite.bus import Bus
from deferlite.model.build import BuildState
from deferlite.model.changes import Commit
from deferlite.model.environment import BuildSettings, EnvironmentConfig
from deferlite.model.events import BuildRequested
from deferlite.model.execution import LogLine
from deferlite.store import Store
from tests.support import Repository
from tests.unit.cli_fixtures import SPECS, STEPS, Run, enqueue, publish, request, server

pytestmark = pytest.mark.anyio
Work = Callable[[str], Awaitable[object]]


async def while_built(run: Run, bus: Bus, work: Work, *words: str) -> Result:
    """What the command prints, while ``work`` is done on the build that it asks for."""
    results: list[Result] = []

    async def command() -> None:
        results.append(await run(*words))

    with bus.subscribe(BuildRequested) as requested:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(command)
            await work((await requested.receive()).build_id)
    return results[0]


async def go(store: Store, id: str, steps: tuple[str, ...] = STEPS) -> None:
    """Through ``steps``, each with a line of its own in the log."""
    for state in steps:
        await store.builds.advance(id, BuildState(state))
        moment = (await store.builds.get(id)).steps[-1].started_at
        await store.logs.append_build(id, [LogLine(moment + 1, "stdout", f"said while {state}")])


async def test_builds_are_followed_and_rolled_back(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        id = (await run("build", "production")).stdout.strip()
        results: list[Result] = []

        async def follow() -> None:
            results.append(await run("builds", "logs", "production#2"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await go(store, id)
            await store.builds.fail(id, "add stripe to requirements.txt")
        assert [line.split()[3] for line in results[0].stdout.splitlines()] == list(STEPS)
        second = await publish(store)
        back = await run("rollback", "production")
        assert back.exit_code == 0
        assert "production is live on build #1" in back.stderr and "--resume" in back.stderr
        live = (await store.environments.get("production")).live_build_id
        assert live == back.stdout.strip() != second
        assert (await run("rollback", "production", "3")).stdout.strip() == second
        assert (await run("rollback", "production")).exit_code == 0
        assert (await run("rollback", "production")).exit_code == 1
        resumed = await run("rollback", "production", "--resume")
        assert (resumed.exit_code, resumed.stdout.strip()) == (0, second)
        assert "follows" in resumed.stderr
        again = await run("rollback", "production", "--resume")
        assert (again.exit_code, again.stdout) == (1, "")
        assert (await run("rollback", "production", "1", "--resume")).exit_code == 2


async def test_waiting_shows_log_and_stages_and_what_is_live(tmp_path: Path) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, run):

        async def work(id: str) -> None:
            await go(store, id)
            await publish_prepared(store, id)

        result = await while_built(run, bus, work, "build", "production", "--wait")
        assert result.exit_code == 0
        id, *log = result.stdout.splitlines()
        assert (await store.builds.get(id)).live
        assert [line.split()[3] for line in log] == list(STEPS)
        told = result.stderr.splitlines()
        assert [line.split()[0] for line in told[1:6]] == list(STEPS)
        assert all(line.split()[2] in ("ms", "s") for line in told[1:6])
        assert told[-1].startswith("production is live on build #2 (cccccccc)")


async def publish_prepared(store: Store, id: str) -> None:
    """End a build that is in its last stage."""
    live = (await store.environments.get("production")).live_build_id
    assert live is not None
    await store.builds.publish(id, await store.builds.manifest(live))


async def test_waiting_for_programs_prints_the_ended_build(tmp_path: Path) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, run):

        async def work(id: str) -> None:
            await go(store, id)
            await publish_prepared(store, id)

        result = await while_built(run, bus, work, "build", "production", "--wait", "--json")
        build = json.loads(result.stdout)
        assert (build["state"], build["live"], result.exit_code) == ("succeed", True, 0)
        assert "said while" not in result.stderr


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_waiting_for_a_build_that_fails_is_a_failure(tmp_path: Path, words: tuple[str, ...]) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, run):

        async def work(id: str) -> None:
            await go(store, id, STEPS[:3])
            await store.builds.fail(id, "add stripe to requirements.txt")

        result = await while_built(run, bus, work, "build", "production", "--wait", *words)
        assert result.exit_code == 1
        last = result.stderr.splitlines()[-1]
        assert last == "deferlite: build #2 of production failed: add stripe to requirements.txt"
        assert "said while installing" in (result.stderr if words else result.stdout)
        assert "said while cloning" not in result.stderr
        if words:
            assert json.loads(result.stdout)["state"] == "failed"


async def test_a_build_that_somebody_cancels_ends_the_wait(tmp_path: Path) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, run):
        result = await while_built(run, bus, store.builds.cancel, "build", "production", "--wait")
        assert result.exit_code == 1
        assert "build #2 of production was cancelled" in result.stderr


async def test_another_commit_is_built_and_holds(tmp_path: Path) -> None:
    async with server(tmp_path / "home") as (store, run):
        repository = await anyio.to_thread.run_sync(Repository, tmp_path / "shop", {"jobs.py": ""})
        first = await anyio.to_thread.run_sync(repository.git, "rev-parse", "HEAD")
        second = await anyio.to_thread.run_sync(repository.commit, "second", {})
        config = EnvironmentConfig(repository=str(repository.path))
        await store.environments.apply("production", config, "production.toml")
        await publish(store, build_id=await request(store, second))
        result = await run("build", "production", "--commit", first[:8], "--json")
        assert json.loads(result.stdout)["commit"] == first
        assert "holds there until the next commit" in result.stderr
        unknown = await run("build", "production", "--commit", "f" * 40)
        assert (unknown.exit_code, unknown.stdout) == (1, "")
        assert "ffffffff" in unknown.stderr


async def test_builds_are_cancelled_by_id_number_or_environment(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        for command, name in (("build", "id"), ("builds", "number"), ("build", "environment")):
            id = await request(store)
            number = (await store.builds.get(id)).number
            text = {"id": id, "number": f"production#{number}", "environment": "production"}[name]
            result = await run(command, "cancel", text)
            assert (result.exit_code, result.stdout.strip()) == (0, id)
            assert f"build #{number} of production is cancelled" in result.stderr
            assert (await store.builds.get(id)).finished_at is not None
        none = await run("build", "cancel", "production")
        assert (none.exit_code, none.stdout) == (1, "")
        twice = await run("build", "cancel", id)
        assert twice.exit_code == 1 and 'has ended already: "cancelled"' in twice.stderr
        row = (await run("builds", "production")).stdout.splitlines()[0].split("\t")
        assert row[1] == "cancelled"
        running = await request(store)
        await store.builds.advance(running, BuildState.STARTED)
        assert "is being ended" in (await run("build", "cancel", "production")).stderr
        as_json = json.loads((await run("builds", "cancel", running, "--json")).stdout)
        assert as_json[0]["id"] == running


async def test_a_newer_commit_overtakes(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        await request(store, "d" * 40)
        await request(store, "e" * 40)
        rows = [line.split("\t")[1] for line in (await run("builds", "production")).stdout.splitlines()]
        assert rows == ["created", "overtaken", "live"]


async def test_an_environment_stands_for_its_newest_build(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        newest = await publish(store)
        assert newest in (await run("builds", "show", "production")).stdout
        assert (await run("builds", "logs", "production")).exit_code == 0
        await store.environments.apply("empty", EnvironmentConfig(repository="/srv/shop"), "empty.toml")
        assert "empty has no build yet" in (await run("builds", "show", "empty")).stderr
        neither = await run("builds", "show", "Nothing!")
        assert neither.exit_code == 2 and "ENV#NUMBER" in neither.stderr


async def test_a_broken_file_is_why_there_is_no_build(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        await store.environments.reject("broken", "broken.toml, line 1: no", "broken.toml")
        result = await run("build", "broken")
        assert result.exit_code == 1 and "broken.toml, line 1: no" in result.stderr


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_waiting_for_a_build_that_is_held_is_a_failure(tmp_path: Path, words: tuple[str, ...]) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, run):
        config = EnvironmentConfig(repository="/srv/shop", build=BuildSettings(breaking="hold"))
        await store.environments.apply("production", config, "production.toml")
        await enqueue(store)

        async def work(id: str) -> None:
            await publish(store, SPECS[1:], build_id=id)

        result = await while_built(run, bus, work, "build", "production", "--wait", *words)
        assert result.exit_code == 1
        assert "is held and not live: `deferlite promote production`" in result.stderr
        assert "warning: hello, 1 execution" in result.stderr
        assert "is held: `deferlite promote production`" in (await run("environments")).stderr
        if words:
            assert json.loads(result.stdout)["held"]


async def test_an_environment_may_be_called_as_a_word(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        await store.environments.apply("cancel", EnvironmentConfig(repository="/srv/shop"), "cancel.toml")
        result = await run("build", "cancel")
        assert "cancel has no build to repeat" in result.stderr


async def test_a_held_build_is_promoted(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        config = EnvironmentConfig(repository="/srv/shop", build=BuildSettings(breaking="hold"))
        await store.environments.apply("production", config, "production.toml")
        nothing = await run("promote", "production")
        assert (nothing.exit_code, nothing.stdout) == (1, "")
        await enqueue(store)
        id = await publish(store, SPECS[1:])
        listed = await run("builds", "production")
        assert listed.stdout.splitlines()[0].split("\t")[1] == "held"
        assert "deferlite promote production" in listed.stderr
        shown = (await run("builds", "show", "production#2")).stdout
        assert "newly broken:" in shown and "hello, 1 execution" in shown
        result = await run("promote", "production", "#2")
        assert (result.exit_code, result.stdout.strip()) == (0, id)
        assert "production is live on build #2" in result.stderr
        assert "warning: hello, 1 execution" in result.stderr
        assert (await run("promote", "production", "2")).exit_code == 1
        assert (await run("promote", "production", "9")).exit_code == 1


async def test_a_build_says_what_it_changed(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        commits = (Commit(id="e" * 40, subject="Rename it", author="Ada"),)
        id = await publish(store, SPECS[1:], builder="9.9.9", commits=commits, more_commits=1)
        shown = (await run("builds", "show", id)).stdout
        for part in ("#2 of production", "changed since #1:", "eeeeeeee  Rename it  (Ada)", "and 1 commit before"):
            assert part in shown
        assert "removed   hello" in shown
        assert "publishing" in shown
        assert json.loads((await run("builds", "show", id, "--json")).stdout)["builder"] == "9.9.9"
        rows = [line.split("\t") for line in (await run("builds", "production")).stdout.splitlines()]
        assert [row[8] for row in rows] == ["9.9.9", "-"]
