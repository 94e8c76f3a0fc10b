"""When a build is asked for besides a branch that moves: edits, restarts, rollbacks, remote repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from deferlite.model.build import Build, BuildState, Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentState
from deferlite.model.function import Manifest
from tests.services.watcher_fixtures import Watched, first_build, new_repository, watching

pytestmark = pytest.mark.anyio


async def test_an_edit_builds_only_when_it_changes_the_build(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        watched.write("staging", repository.path, "[run]\nconcurrency = 3\n")
        await watched.becomes("staging", lambda e: e.config is not None and e.config.run.concurrency == 3)
        watched.write("staging", repository.path, '[env]\nA = "1"\n')
        build = await watched.number("staging", 2)
        assert build.trigger is Trigger.SETTINGS
        watched.write("staging", repository.path, '[env]\nA = "1"\n[build]\nprebuild = "true"\n')
        assert (await watched.number("staging", 3)).trigger is Trigger.SETTINGS
        assert len({build.commit for build in await watched.builds("staging")}) == 1


async def test_a_retired_environment_is_not_built_and_one_that_returns_is(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        watched.file("staging").unlink()
        await watched.becomes("staging", lambda e: e.state is EnvironmentState.RETIRED)
        commit = await repository.commit("while away")
        await first_build(watched, repository, name="other")
        assert len(await watched.builds("staging")) == 1
        watched.write("staging", repository.path)
        assert (await watched.number("staging", 2)).commit == commit


async def test_a_restart_builds_what_was_committed_meanwhile_and_nothing_else(tmp_path: Path) -> None:
    kept, moved = await new_repository(tmp_path / "kept", "first"), await new_repository(tmp_path / "moved", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, kept, name="kept")
        await first_build(watched, moved, name="moved")
    commit = await moved.commit("meanwhile")
    async with watching(tmp_path) as watched:
        await watched.built("moved", commit)
        await watched.built("kept", await kept.commit("a marker"))
        assert len(await watched.builds("kept")) == 2


async def test_a_build_that_a_crash_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        build = (await watched.builds("staging"))[0]
        await watched.store.builds.advance(build.id, BuildState.STARTED)
    async with watching(tmp_path, recovering=True) as watched:
        again = await watched.number("staging", 2)
        assert again.commit == build.commit


async def test_a_build_that_a_removed_file_prevented_is_asked_for_when_it_returns(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        commit = await first_build(watched, repository)
        watched.file("staging").unlink()
        await watched.becomes("staging", lambda e: e.state is EnvironmentState.RETIRED)
        watched.write("staging", repository.path)
        assert (await watched.number("staging", 2)).commit == commit


async def publish(watched: Watched, build: Build) -> None:
    for state in (BuildState.STARTED, BuildState.CLONING, BuildState.INSTALLING, BuildState.COMPILING):
        await watched.store.builds.advance(build.id, state)
    await watched.store.builds.advance(build.id, BuildState.PUBLISHING)
    manifest = Manifest(runtime="python", interpreter="CPython", modules=(), functions=())
    await watched.store.builds.publish(build.id, manifest)


async def test_a_rollback_holds_until_the_next_commit(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        await publish(watched, await watched.number("staging", 1))
        await watched.built("staging", await repository.commit("second"))
        await publish(watched, await watched.number("staging", 2))
        await watched.store.builds.rollback("staging", None)
    async with watching(tmp_path, pause=0.001) as watched:
        watched.write("staging", repository.path, '[env]\nA = "1"\n')
        await watched.becomes("staging", lambda e: e.config is not None and e.config.env == {"A": "1"})
        await first_build(watched, repository, name="marker")
        build = await watched.built("staging", await repository.commit("third"))
        assert build.number == 3


async def test_a_build_that_failed_is_not_tried_again_by_itself(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        build = (await watched.builds("staging"))[0]
        await watched.store.builds.advance(build.id, BuildState.STARTED)
        await watched.store.builds.fail(build.id, "your project is wrong")
    async with watching(tmp_path) as watched:
        await watched.built("staging", await repository.commit("mended"))
        assert len(await watched.builds("staging")) == 2


async def test_a_remote_repository_is_asked_every_so_often(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    clock = ManualClock()
    async with watching(tmp_path, clock) as watched:
        watched.write("staging", f"file://{repository.path}", 'poll = "30s"\n')
        build = await watched.number("staging", 1)
        assert (build.branch, build.commit) == ("main", await repository.git("rev-parse", "HEAD"))
        commit = await repository.commit("second")
        clock.advance(31)
        await watched.built("staging", commit)


async def test_a_remote_repository_that_is_gone_or_has_no_such_branch(tmp_path: Path) -> None:
    clock = ManualClock()
    async with watching(tmp_path, clock) as watched:
        watched.write("staging", f"file://{tmp_path}/shop", 'branch = "x"\n')
        problem = (await watched.becomes("staging", lambda e: e.problem is not None)).problem
        assert problem is not None and "does not answer" in problem
        repository = await new_repository(tmp_path / "shop", "first")
        clock.advance(31)
        await watched.becomes("staging", lambda e: e.problem is not None and 'no branch "x"' in e.problem)
        await repository.git("branch", "x")
        clock.advance(31)
        await watched.number("staging", 1)
        await watched.becomes("staging", lambda e: e.problem is None)


async def test_hooks_and_programs_of_the_repository_do_not_run(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    config = repository.path / ".git" / "config"
    config.write_text(
        config.read_text()
        + f"[core]\nfsmonitor = {trap}\nsshCommand = {trap}\npager = {trap}\n[log]\nshowSignature = true\n"
        + f"[gpg]\nprogram = {trap}\n[diff]\nexternal = {trap}\n"
    )
    async with watching(tmp_path) as watched:
        await first_build(watched, repository, "worktree = true\n")
        watched.write("staging", repository.path)
        await watched.number("staging", 2)
    assert not (tmp_path / "sprung").exists()
