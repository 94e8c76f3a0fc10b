"""Previews come and go with their branches, in real repositories and with the real store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deferlite.model.build import RETIRED, BuildState, Trigger
from deferlite.model.environment import EnvironmentState, Preview
from deferlite.model.events import AbortRequested, BuildCancelRequested, Event
from deferlite.model.execution import NewExecution, State
from deferlite.store import Want
from tests.services.preview_fixtures import all_are, ended, preview_of, previews, publish, write_base
from tests.services.watcher_fixtures import first_build, new_repository, watching

pytestmark = pytest.mark.anyio


async def test_a_branch_that_appears_has_an_environment_within_a_second(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path, pause=0.1) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        began = time.monotonic()
        await repository.git("branch", "feature/login")
        environment = await preview_of(watched, "feature/login")
        assert time.monotonic() - began < 1
        assert (environment.name, environment.source) == ("shop--feature-login", str(watched.file("shop")))
        assert environment.preview == Preview(of="shop", branch="feature/login")
        build = await watched.number(environment.name, 1)
        assert time.monotonic() - began < 1
        assert (build.branch, build.trigger) == ("feature/login", Trigger.NEW)
        commit = await repository.git("rev-parse", "main")
        assert build.commit == commit


async def test_it_has_the_settings_of_its_base_with_those_of_preview_on_top(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        more = 'token = "0123456789abcdefghijkl"\n[run]\nreuse = 5\nmemory = "1GiB"\n[env]\nA = "1"\nB = "2"\n'
        write_base(watched, repository, 'branches = ["f*"]\nconcurrency = 2\nenv = { B = "p", C = "3" }\n', more)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        environment = await preview_of(watched, "feature/x")
        config = environment.config
        assert config is not None
        assert config.env == {"A": "1", "B": "p", "C": "3"}
        assert (config.run.cron, config.run.concurrency, config.run.reuse) == (False, 2, 5)
        assert config.run.memory == 2**30
        assert (config.branch, config.preview, config.token) == ("feature/x", None, None)
        assert await watched.store.tokens.list(environment.name) == []


async def test_commits_on_the_branch_are_built_in_it_and_nowhere_else(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("checkout", "-qb", "feature/x")
        commit = await repository.commit("on the branch")
        environment = await preview_of(watched, "feature/x")
        await watched.built(environment.name, commit)
        again = await repository.commit("again")
        assert (await watched.built(environment.name, again)).trigger is Trigger.COMMIT
        assert len(await watched.builds("shop")) == 1


async def test_a_deleted_branch_takes_its_work_with_it_and_leaves_its_history(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    heard: list[Event] = []
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        name = (await preview_of(watched, "feature/x")).name
        await publish(watched, await watched.number(name, 1), "job")
        _, token = await watched.store.tokens.create(name)
        executions = await watched.store.executions.enqueue(name, [NewExecution(function_name="job")] * 3)
        later = NewExecution(function_name="job", scheduled_at=2**50)
        executions += await watched.store.executions.enqueue(name, [later])
        function = await watched.store.functions.get(name, "job")
        (claimed,) = await watched.store.executions.claim([Want(name, function.id, 1)], "boot", "process")
        with watched.bus.listening(AbortRequested, heard.append):
            await repository.git("branch", "-D", "feature/x")
            preview = await ended(watched, "feature/x")
        assert (preview.ended, preview.commit) == ("deleted", None)
        assert heard == [AbortRequested(environment=name, execution_id=claimed.id)]
        states = [(await watched.store.executions.get(None, each.id)).state for each in executions]
        assert sorted(states) == [State.ABORTING, *[State.CANCELLED] * 3]
        by_state = (await watched.store.statistics.environments())[name]
        assert by_state == {State.ABORTING: 1, State.CANCELLED: 3}
        assert await watched.store.tokens.verify(token) is None
        environment = await watched.environment(name)
        assert environment is not None and environment.live_build_id is None
        assert [build.state for build in await watched.builds(name)] == [BuildState.SUCCEED]


async def test_a_build_at_work_ends_with_its_preview_and_is_made_again_if_that_comes_back(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    heard: list[Event] = []
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/x")
        name = (await preview_of(watched, "feature/x")).name
        build = await watched.number(name, 1)
        await watched.store.builds.advance(build.id, BuildState.STARTED)
        with watched.bus.listening(BuildCancelRequested, heard.append):
            await repository.git("branch", "-D", "feature/x")
            await ended(watched, "feature/x")
        assert heard == [BuildCancelRequested(environment=name, build_id=build.id)]
        assert (await watched.store.builds.get(build.id)).error == RETIRED
        await repository.git("branch", "feature/x")
        assert (await preview_of(watched, "feature/x")).name == name
        await publish(watched, await watched.number(name, 2))
        await repository.git("branch", "-D", "feature/x")
        await ended(watched, "feature/x")
        await repository.git("branch", "feature/x")
        assert (await watched.number(name, 3)).commit == build.commit


@pytest.mark.parametrize("how", ["--no-ff", "--ff-only"])
async def test_a_merged_branch_loses_its_preview_until_it_has_a_new_commit(tmp_path: Path, how: str) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("checkout", "-qb", "feature/x")
        commit = await repository.commit("on the branch")
        await watched.built((await preview_of(watched, "feature/x")).name, commit)
        await watched.becomes("shop--feature-x", lambda e: e.preview is not None and e.preview.ahead)
        await repository.git("checkout", "-q", "main")
        await repository.git("merge", "-q", how, "-m", "merge", "feature/x")
        preview = await ended(watched, "feature/x")
        assert (preview.ended, preview.commit) == ("merged", commit)
        await watched.built("shop", await repository.git("rev-parse", "main"))
    async with watching(tmp_path) as watched:
        await watched.built("shop", await repository.commit("a marker"))
        await repository.git("branch", "feature/marker")
        await all_are(watched, "feature/marker")
        await repository.git("checkout", "-q", "feature/x")
        again = await repository.commit("more")
        environment = await preview_of(watched, "feature/x")
        assert environment.name == "shop--feature-x"
        await watched.built(environment.name, again)
        assert environment.preview == Preview(of="shop", branch="feature/x", ahead=True)


async def test_a_squashed_branch_keeps_its_preview_until_it_is_deleted(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("checkout", "-qb", "feature/x")
        await repository.commit("on the branch")
        await preview_of(watched, "feature/x")
        await repository.git("checkout", "-q", "main")
        await repository.git("merge", "-q", "--squash", "feature/x")
        await watched.built("shop", await repository.commit("squashed"))
        await repository.git("branch", "feature/marker")
        await all_are(watched, "feature/x", "feature/marker")
        await repository.git("branch", "-D", "feature/x")
        assert (await ended(watched, "feature/x")).ended == "deleted"


async def test_a_branch_that_never_was_ahead_is_not_merged(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first", "second")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        await repository.git("branch", "feature/equal")
        await repository.git("branch", "feature/behind", "main~1")
        await all_are(watched, "feature/equal", "feature/behind")
        await watched.built("shop", await repository.commit("third"))
        await repository.git("branch", "feature/marker")
        await all_are(watched, "feature/equal", "feature/behind", "feature/marker")


async def test_what_happened_to_branches_while_the_server_was_away(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        write_base(watched, repository)
        await watched.number("shop", 1)
        for branch in ("kept", "deleted"):
            await repository.git("branch", f"feature/{branch}")
        await all_are(watched, "feature/kept", "feature/deleted")
        names = {branch: each.name for branch, each in (await previews(watched)).items()}
    await repository.git("branch", "-D", "feature/deleted")
    await repository.git("branch", "feature/new")
    async with watching(tmp_path) as watched:
        await all_are(watched, "feature/kept", "feature/new")
        assert (await preview_of(watched, "feature/kept")).name == names["feature/kept"]
        await repository.git("branch", "feature/deleted")
        assert (await preview_of(watched, "feature/deleted")).name == names["feature/deleted"]
        assert len(await watched.builds(names["feature/kept"])) == 1


async def test_fifty_branches_made_and_deleted_in_a_loop(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path, pause=0.01) as watched:
        write_base(watched, repository, 'branches = ["feature/*"]\nlimit = 50\n')
        await watched.number("shop", 1)
        for number in range(10):
            branches = [f"feature/{number}/{place}" for place in range(5)]
            for branch in branches:
                await repository.git("branch", branch)
            await all_are(watched, *branches)
            for branch in branches:
                await watched.number((await preview_of(watched, branch)).name, 1)
            await repository.git("branch", "-D", *branches)
            await all_are(watched)
        history = await previews(watched, retired=True)
        assert len(history) == 50
        assert {each.state for each in history.values()} == {EnvironmentState.RETIRED}
        assert list(watched.repositories.__dict__["_places"]) == ["shop"]


async def test_branches_in_folders_packed_refs_and_a_bare_repository(tmp_path: Path) -> None:
    source = await new_repository(tmp_path / "source", "first")
    await source.git("clone", "-q", "--bare", source.path, tmp_path / "shop.git")
    async with watching(tmp_path) as watched:
        watched.write("shop", tmp_path / "shop.git", 'branch = "main"\n[preview]\nbranches = ["*"]\n')
        await watched.number("shop", 1)
        await source.git("push", "-q", tmp_path / "shop.git", "main:a/b/c", "main:x")
        await all_are(watched, "a/b/c", "x")
        await source.git("-C", tmp_path / "shop.git", "pack-refs", "--all", "--prune")
        await source.git("push", "-q", tmp_path / "shop.git", "main:a/b/d")
        await all_are(watched, "a/b/c", "a/b/d", "x")
        await source.git("push", "-q", tmp_path / "shop.git", ":a/b/c", ":x")
        await all_are(watched, "a/b/d")


async def test_a_base_that_follows_head_has_no_preview_of_what_is_checked_out(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("branch", "other")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository, '[preview]\nbranches = ["*"]\n', name="shop")
        await all_are(watched, "other")
        await repository.git("checkout", "-q", "other")
        await all_are(watched, "main")
