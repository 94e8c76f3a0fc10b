"""Builds: requested, overtaken, walked through their states, published, rolled back."""

from __future__ import annotations

from typing import Any

import pytest

from deferlite.model.build import BuildState
from deferlite.model.clock import SECOND
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import Conflict, NotFound
from deferlite.model.events import BuildChanged, BuildPublished, BuildRequested

pytestmark = pytest.mark.anyio


async def apply(world: Any, name: str = "shop", **fields: Any) -> None:
    await world.store.environments.apply(name, EnvironmentConfig(repository="/r", **fields), f"{name}.toml")


async def test_a_request_keeps_the_settings_of_its_moment(world: Any) -> None:
    await apply(world, branch="main")
    build = await world.request(commit="a" * 40)
    await apply(world, branch="other")
    assert (build.number, build.state, build.commit, build.live) == (1, BuildState.CREATED, "a" * 40, False)
    assert (await world.store.builds.config(build.id)).branch == "main"
    assert world.heard(BuildRequested) == [BuildRequested(environment="shop", build_id=build.id)]
    assert await world.store.builds.get(build.id) == build


async def test_a_newer_request_overtakes_those_not_started(world: Any) -> None:
    await apply(world)
    running = await world.request()
    await world.store.builds.advance(running.id, BuildState.STARTED)
    first = await world.request()
    second = await world.request(commit="b" * 40)
    overtaken = await world.store.builds.get(first.id)
    assert (overtaken.state, overtaken.error) == (BuildState.FAILED, "overtaken by build 3 (bbbbbbbbbbbb)")
    assert (await world.store.builds.get(running.id)).state is BuildState.STARTED
    assert (await world.store.builds.next_created(())).id == second.id


async def test_no_build_without_good_settings(world: Any) -> None:
    with pytest.raises(NotFound, match='no environment "shop"'):
        await world.request()
    await world.store.environments.reject("shop", "line 1: no", "shop.toml")
    with pytest.raises(Conflict, match="no good settings"):
        await world.request()
    await apply(world)
    await world.store.environments.retire("shop")
    with pytest.raises(Conflict, match="retired"):
        await world.request()


async def test_the_oldest_of_the_environments_not_busy_is_next(world: Any) -> None:
    for name in ("a", "b"):
        await apply(world, name)
    first, second = await world.request("a"), await world.request("b")
    next_created = world.store.builds.next_created
    assert (await next_created(set())).id == first.id
    assert (await next_created({"a"})).id == second.id
    assert await next_created({"a", "b"}) is None
    await world.store.environments.retire("a")
    assert (await next_created(())).id == second.id
    assert (await world.store.builds.get(first.id)).state is BuildState.FAILED


async def test_steps_are_timed(world: Any) -> None:
    await apply(world)
    build = await world.request()
    started = world.clock.now()
    for state in (BuildState.STARTED, BuildState.CLONING, BuildState.INSTALLING):
        build = await world.store.builds.advance(build.id, state)
        world.clock.advance(2)
    failed = await world.store.builds.fail(build.id, "pip: no such package: add it to requirements.txt")
    assert (failed.state, failed.error is not None) == (BuildState.FAILED, True)
    assert failed.finished_at == world.clock.now()
    assert [(step.state, step.started_at - started, step.finished_at - started) for step in failed.steps] == [
        (BuildState.STARTED, 0, 2 * SECOND),
        (BuildState.CLONING, 2 * SECOND, 4 * SECOND),
        (BuildState.INSTALLING, 4 * SECOND, 6 * SECOND),
    ]
    assert [event.state.value for event in world.heard(BuildChanged)] == [
        "created",
        "started",
        "cloning",
        "installing",
        "failed",
    ]


async def test_states_cannot_be_skipped_nor_left_again(world: Any, make_manifest: Any) -> None:
    await apply(world)
    build = await world.request()
    with pytest.raises(Conflict, match='cannot go from "created" to "compiling"'):
        await world.store.builds.advance(build.id, BuildState.COMPILING)
    with pytest.raises(Conflict, match='cannot be published: it is "created"'):
        await world.store.builds.publish(build.id, make_manifest())
    await world.to_publishing(build)
    with pytest.raises(Conflict, match='cannot go from "publishing" to "succeed"'):
        await world.store.builds.advance(build.id, BuildState.SUCCEED)
    await world.store.builds.fail(build.id, "no")
    with pytest.raises(Conflict, match="has ended already"):
        await world.store.builds.fail(build.id, "again")
    with pytest.raises(NotFound):
        await world.store.builds.advance("unknown", BuildState.STARTED)


async def test_publishing_switches_the_live_build_and_its_functions(
    world: Any, make_spec: Any, make_manifest: Any
) -> None:
    await apply(world, functions={"a": {"concurrency": 2}})
    first = await world.publish(make_spec("a", concurrency=9), make_spec("b"))
    assert (first.state, first.live) == (BuildState.SUCCEED, True)
    assert world.heard(BuildPublished) == [BuildPublished(environment="shop", build_id=first.id)]
    a, b = await world.store.functions.list("shop")
    assert (a.name, a.options.concurrency, b.name) == ("a", 2, "b")
    assert (await world.store.functions.spec(a.id)).options.concurrency == 9
    second = await world.publish(make_spec("c"), make_spec("a"))
    functions = await world.store.functions.list("shop")
    assert [(row.name, row.active) for row in functions] == [("a", True), ("c", True), ("b", False)]
    assert functions[0].id == a.id
    assert await world.store.builds.manifest(second.id) == make_manifest(make_spec("c"), make_spec("a"))
    assert not (await world.store.builds.get(first.id)).live
    with pytest.raises(NotFound):
        await world.store.builds.manifest((await world.request()).id)


async def test_settings_of_one_function_take_effect_without_a_build(world: Any, make_spec: Any) -> None:
    await apply(world)
    await world.publish(make_spec("a", concurrency=9))
    await apply(world, functions={"a": {"concurrency": 1, "retry": {"max_attempts": 2}}})
    function = await world.store.functions.get("shop", "a")
    assert (function.options.concurrency, function.options.retry.max_attempts) == (1, 2)
    await apply(world)
    assert (await world.store.functions.get("shop", "a")).options.concurrency == 9


async def test_rollback_goes_one_good_build_back_and_holds_there(world: Any, make_spec: Any) -> None:
    await apply(world)
    first = await world.publish(make_spec("a"))
    failed = await world.request()
    await world.store.builds.fail(failed.id, "no")
    second = await world.publish(make_spec("b"))
    back = await world.store.builds.rollback("shop", None)
    assert (back.id, back.live) == (first.id, True)
    assert world.heard(BuildPublished)[-1].build_id == first.id
    environment = await world.store.environments.get("shop")
    assert (environment.live_build_id, environment.pinned) == (first.id, True)
    assert [row.name for row in await world.store.functions.list("shop") if row.active] == ["a"]
    assert (await world.store.builds.rollback("shop", second.id)).live
    await world.publish(make_spec("b"))
    assert not (await world.store.environments.get("shop")).pinned


async def test_what_cannot_be_rolled_back_to(world: Any, make_spec: Any) -> None:
    await apply(world)
    await apply(world, "other")
    good = await world.publish(make_spec("a"))
    elsewhere = await world.publish(make_spec("a"), environment="other")
    created = await world.request()
    rollback = world.store.builds.rollback
    for build_id, error, words in (
        (None, Conflict, "no good build before"),
        (good.id, Conflict, "is live already"),
        (created.id, Conflict, 'is "created"; only a good build'),
        (elsewhere.id, NotFound, 'environment "shop" has no build'),
        ("unknown", NotFound, "cannot find build"),
    ):
        with pytest.raises(error, match=words):
            await rollback("shop", build_id)
    with pytest.raises(NotFound):
        await rollback("unknown", None)


async def test_lists_go_on_before_a_number(world: Any) -> None:
    for name in ("a", "b"):
        await apply(world, name)
    for _ in range(3):
        await world.request("a")
        await world.request("b")
    listed = world.store.builds.list
    assert [build.number for build in await listed("a", limit=2)] == [3, 2]
    assert [build.number for build in await listed("a", before_number=2)] == [1]
    everywhere = [(build.environment, build.number) for build in await listed(None, limit=3)]
    assert sorted(everywhere) == [("a", 3), ("b", 2), ("b", 3)]


async def test_builds_cut_off_by_a_crash_fail_and_those_that_wait_stay(world: Any) -> None:
    for name in ("a", "b"):
        await apply(world, name)
    cut, waiting = await world.request("a"), await world.request("b")
    await world.store.builds.advance(cut.id, BuildState.STARTED)
    await world.reopen()
    assert await world.store.builds.fail_unfinished("cut off by the end of the server") == 1
    cut = await world.store.builds.get(cut.id)
    assert (cut.state, cut.error) == (BuildState.FAILED, "cut off by the end of the server")
    assert cut.steps[0].finished_at is not None
    assert (await world.store.builds.next_created(())).id == waiting.id


async def test_builds_in_use_are_live_running_unfinished_or_kept_for_rollback(world: Any, make_spec: Any) -> None:
    await apply(world, retention_builds=2)
    builds = [await world.publish(make_spec("a"))]
    await world.start(await world.store.functions.get("shop", "a"))
    builds += [await world.publish(make_spec("a")) for _ in range(4)]
    await world.store.builds.rollback("shop", builds[3].id)
    await apply(world, retention_builds=1)
    waiting = await world.request()
    expected = {builds[index].id for index in (0, 3, 4)} | {waiting.id}
    assert await world.store.builds.in_use("shop") == expected


async def test_no_build_goes_live_whose_files_were_let_go(world: Any, make_spec: Any) -> None:
    """Not even where more builds are kept again by now."""
    await apply(world)
    builds = [await world.publish(make_spec("a")) for _ in range(4)]
    await apply(world, retention_builds=1)
    assert await world.store.builds.let_go("shop") == {builds[3].id}
    await apply(world, retention_builds=5)
    for build_id in (None, builds[0].id):
        with pytest.raises(Conflict, match=r"no good build before|files of build 1 of shop are not kept"):
            await world.store.builds.rollback("shop", build_id)
    assert await world.store.builds.in_use("shop") == {builds[3].id}


async def test_a_retired_environment_releases_nothing_and_comes_back_with_its_queue(world: Any, make_spec: Any) -> None:
    await apply(world)
    builds = [await world.publish(make_spec("a")) for _ in range(2)]
    waiting = await world.enqueue("a")
    await world.store.environments.retire("shop")
    with pytest.raises(Conflict, match='"shop" is retired'):
        await world.store.builds.rollback("shop", None)
    assert await world.store.builds.let_go("shop") == {builds[1].id}
    await apply(world)
    with pytest.raises(Conflict, match="no good build before"):
        await world.store.builds.rollback("shop", None)
    await world.store.environments.retire("shop")
    assert await world.store.builds.let_go("shop", live_too=True) == set()
    await apply(world)
    function = await world.store.functions.get("shop", "a")
    # It waits for files: with none it would fail.
    assert await world.claim(function) == []
    await world.publish(make_spec("a"))
    assert [each.id for each in await world.claim(function)] == [waiting.id]
