"""Previews as stored: they need their environment, give way to files, and take their work with them."""

from __future__ import annotations

from typing import Any

import anyio.lowlevel
import pytest

from deferlite.model.build import RETIRED
from deferlite.model.environment import EnvironmentConfig, EnvironmentState, Preview, PreviewSettings
from deferlite.model.errors import Conflict
from deferlite.model.events import AbortRequested, EnvironmentChanged, ExecutionChanged
from deferlite.model.execution import NewExecution, State
from deferlite.store import timing

pytestmark = pytest.mark.anyio

PLAIN = EnvironmentConfig(repository="/srv/shop")
BASE = EnvironmentConfig(repository="/srv/shop", preview=PreviewSettings(branches=("*",)))
X = Preview(of="shop", branch="x")


@pytest.fixture
async def base(world: Any) -> Any:
    """The environment shop with a live build, and its preview shop--x with one too."""
    await world.live()
    await world.store.environments.apply("shop", BASE, "shop.toml")
    await world.store.environments.apply("shop--x", PLAIN, "shop.toml", X)
    return world


async def preview_work(world: Any, make_spec: Any) -> tuple[Any, Any]:
    """A claimed execution of the preview and one that waits."""
    await world.publish(make_spec("job", cron="* * * * *"), environment="shop--x")
    function = await world.store.functions.get("shop--x", "job")
    running = await world.start(function)
    return running, await world.enqueue("job", "shop--x", scheduled_at=2**50)


async def test_a_preview_is_read_back_and_not_told_again(base: Any) -> None:
    base.events.clear()
    applied = await base.store.environments.apply("shop--x", PLAIN, "shop.toml", X)
    assert (applied.preview, base.heard(EnvironmentChanged)) == (X, [])
    (row,) = await base.store.environments.previews("shop", ["x"])
    assert (row.environment, row.commit, row.built_at) == (applied, None, None)
    assert await base.store.environments.active_previews("shop") == ["shop--x"]


async def test_a_preview_takes_no_name_of_another_and_needs_its_environment(base: Any) -> None:
    environments = base.store.environments
    with pytest.raises(Conflict, match='"shop" is another environment'):
        await environments.apply("shop", PLAIN, "shop.toml", X)
    with pytest.raises(Conflict, match='"shop--x" is another'):
        await environments.apply("shop--x", PLAIN, "shop.toml", Preview(of="shop", branch="y"))
    for of in ("nobody", "shop--x"):
        with pytest.raises(Conflict, match="has no previews"):
            await environments.apply("new", PLAIN, "shop.toml", Preview(of=of, branch="y"))
    await environments.apply("shop", PLAIN, "shop.toml")
    with pytest.raises(Conflict, match="has no previews"):
        await environments.apply("shop--x", BASE, "shop.toml", X)


async def test_a_retired_preview_ends_its_work_and_nobody_elses(base: Any, make_spec: Any) -> None:
    running, waiting = await preview_work(base, make_spec)
    other = await base.enqueue()
    _, token = await base.store.tokens.create("shop--x")
    base.events.clear()
    await base.store.environments.retire("shop--x", "expired", "c" * 40)
    await base.store.environments.retire("shop--x", "merged")
    kept = await base.store.environments.get("shop--x")
    assert (kept.state, kept.live_build_id) == (EnvironmentState.RETIRED, None)
    assert kept.preview == Preview(of="shop", branch="x", ended="expired", commit="c" * 40)
    assert base.heard(AbortRequested) == [AbortRequested(environment="shop--x", execution_id=running.id)]
    told = {(event.execution_id, event.state) for event in base.heard(ExecutionChanged)}
    assert told == {(running.id, State.ABORTING), (waiting.id, State.CANCELLED)}
    assert (await base.store.executions.get("shop", other.id)).state is State.CREATED
    assert await base.store.tokens.verify(token) is None
    (function,) = await base.store.functions.list("shop--x")
    assert function.next_cron_at is None
    assert base.heard(EnvironmentChanged) == [EnvironmentChanged(environment="shop--x")]


async def test_a_retired_environment_keeps_its_queue_and_takes_its_previews_along(base: Any, make_spec: Any) -> None:
    running, _ = await preview_work(base, make_spec)
    waiting = await base.enqueue()
    build = await base.request("shop--x")
    await base.store.environments.retire("shop")
    assert (await base.store.executions.get(None, waiting.id)).state is State.CREATED
    assert (await base.store.executions.get(None, running.id)).state is State.ABORTING
    assert (await base.store.builds.get(build.id)).error == RETIRED
    preview = (await base.store.environments.get("shop--x")).preview
    assert preview is not None and preview.ended == "unwanted"


@pytest.mark.parametrize("good", [True, False])
async def test_a_file_takes_the_name_of_a_preview(base: Any, make_spec: Any, good: bool) -> None:
    running, waiting = await preview_work(base, make_spec)
    environments = base.store.environments
    if good:
        after = await environments.apply("shop--x", PLAIN, "shop--x.toml")
    else:
        after = await environments.reject("shop--x", "line 1: no", "shop--x.toml")
    assert (after.preview, after.state, after.source) == (None, EnvironmentState.ACTIVE, "shop--x.toml")
    assert (await base.store.executions.get(None, running.id)).state is State.ABORTING
    assert (await base.store.executions.get(None, waiting.id)).state is State.CANCELLED
    with pytest.raises(Conflict, match="another environment"):
        await environments.apply("shop--x", PLAIN, "shop.toml", X)


async def test_a_preview_comes_back_and_its_note_and_problem_do_not(base: Any) -> None:
    environments = base.store.environments
    await environments.note("shop", "no place for y")
    await environments.report("shop--x", "away")
    await environments.retire("shop--x", "deleted")
    await environments.report("shop--x", "still away")
    (row,) = await environments.previews("shop", ["x"])
    assert (row.preview.ended, row.environment.problem) == ("deleted", None)
    assert await environments.previews("shop", ["y"]) == []
    back = await environments.apply("shop--x", PLAIN, "shop.toml", X)
    assert (back.state, back.preview) == (EnvironmentState.ACTIVE, X)
    assert (await environments.get("shop")).note == "no place for y"


async def test_a_long_queue_of_a_preview_ends_in_pieces_that_survive_a_crash(
    base: Any, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "MOST_SETTLED", 10)
    await base.publish(make_spec("job"), environment="shop--x")
    items = [NewExecution(function_name="job") for _ in range(35)]
    for piece_by_piece in (True, False):
        await base.store.executions.enqueue("shop--x", items)
        with monkeypatch.context() as patched:
            patched.setattr(timing, "settle_all", lambda database: anyio.lowlevel.checkpoint())
            await base.store.environments.retire("shop--x")
        assert (await base.store.statistics.environments())["shop--x"][State.CREATED] == 25
        if piece_by_piece:
            await base.reopen()
            await base.store.executions.recover("next boot")
        await base.store.environments.apply("shop--x", PLAIN, "shop.toml", X)
        # What waited is not the new one's, however soon its branch is back.
        assert State.CREATED not in (await base.store.statistics.environments())["shop--x"]
        await base.publish(make_spec("job"), environment="shop--x")
    await base.check_counters()
