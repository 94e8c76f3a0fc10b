"""One look at a repository serves every environment that follows it, and no repository waits for another."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from deferlite.model.build import Trigger
from deferlite.model.clock import ManualClock
from deferlite.model.environment import EnvironmentState
from deferlite.sandbox.access import Access
from deferlite.sandbox.refs import Refs, remote_refs
from deferlite.watcher import sources
from tests.services.preview_fixtures import publish
from tests.services.watcher_fixtures import first_build, new_repository, watching

pytestmark = pytest.mark.anyio


async def test_environments_of_one_repository_share_a_look_and_the_shortest_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def counted(url: str, access: Access | None) -> Refs:
        asked.append(url)
        return await remote_refs(url, access)

    monkeypatch.setattr(sources, "remote_refs", counted)
    repository = await new_repository(tmp_path / "shop", "first")
    await repository.git("branch", "next")
    clock = ManualClock()
    async with watching(tmp_path, clock) as watched:
        for name, branch, poll in (("a", "main", "1h"), ("b", "next", "10s"), ("c", "main", "1h")):
            watched.write(name, f"file://{repository.path}", f'branch = "{branch}"\npoll = "{poll}"\n')
        for name in ("a", "b", "c"):
            await watched.number(name, 1)
        commit = await repository.commit("second")
        asked.clear()
        clock.advance(11)
        for name in ("a", "c"):
            await watched.built(name, commit)
        assert len(asked) == 1
        assert len(await watched.builds("b")) == 1


async def test_a_repository_that_does_not_answer_delays_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(url: str, access: Access | None) -> Refs:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(sources, "remote_refs", never)
    repository = await new_repository(tmp_path / "shop", "first")
    async with watching(tmp_path) as watched:
        for number in range(20):
            watched.write(f"silent-{number}", f"https://example.invalid/{number}.git")
        await first_build(watched, repository)
        await watched.built("staging", await repository.commit("second"))


async def test_an_environment_that_moves_to_another_repository_and_back(tmp_path: Path) -> None:
    one, other = await new_repository(tmp_path / "one", "first"), await new_repository(tmp_path / "other", "first")
    async with watching(tmp_path) as watched:
        await first_build(watched, one)
        await first_build(watched, one, name="stays")
        watched.write("staging", other.path)
        await watched.built("staging", await other.commit("there"))
        await one.commit("not for it")
        watched.write("staging", one.path)
        await watched.built("staging", await one.commit("back"))
        watched.file("staging").unlink()
        await watched.becomes("staging", lambda e: e.state is EnvironmentState.RETIRED)
        await watched.built("stays", await one.commit("the last"))


async def test_a_build_of_another_commit_is_not_what_was_built_last(tmp_path: Path) -> None:
    repository = await new_repository(tmp_path / "shop", "first", "second")
    older = await repository.git("rev-parse", "HEAD~1")
    async with watching(tmp_path) as watched:
        await first_build(watched, repository)
        await publish(watched, await watched.number("staging", 1))
        build = await watched.store.builds.request(
            "staging", commit=older, branch=None, message="", trigger=Trigger.MANUAL
        )
        await publish(watched, build)
    async with watching(tmp_path) as watched:
        environment = await watched.environment("staging")
        assert environment is not None and environment.pinned
        await first_build(watched, repository, name="marker")
        assert len(await watched.builds("staging")) == 2
        commit = await repository.commit("third")
        assert (await watched.built("staging", commit)).number == 3
