"""Delays, discards and cron in a time that tests move by hand."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from deferlite.model.clock import SECOND, from_datetime
from deferlite.model.environment import EnvironmentConfig, RunSettings
from deferlite.model.errors import BuildError, Conflict
from deferlite.model.events import ExecutionsEnqueued
from deferlite.model.execution import Ending, State
from deferlite.sdk.retry import RetryPolicy
from deferlite.store import ExecutionFilter, PageRequest

pytestmark = pytest.mark.anyio

HOUR = 3600


async def ticks(world: Any) -> list[int]:
    page = await world.store.executions.list(ExecutionFilter(), PageRequest(last=100))
    return [row.cron_tick for row in page.items if row.cron_tick is not None][::-1]


def moment(*when: int) -> int:
    return from_datetime(datetime(*when, tzinfo=timezone.utc))  # type: ignore[misc, arg-type]


async def test_a_delay_ends_at_its_moment(world: Any) -> None:
    function = await world.live()
    moment = world.clock.now() + 60 * SECOND
    await world.enqueue(scheduled_at=moment)
    assert await world.store.executions.next_due() == moment
    assert await world.store.executions.promote(moment - 1) == set()
    world.clock.advance(60)
    world.events.clear()
    assert await world.store.executions.promote(moment) == {function.id}
    assert world.heard(ExecutionsEnqueued) == [
        ExecutionsEnqueued(environment="shop", function_ids=frozenset({function.id}))
    ]
    assert await world.store.executions.next_due() is None
    assert len(await world.claim(function)) == 1


async def test_what_has_not_started_in_time_is_discarded_and_never_claimed(world: Any) -> None:
    function = await world.live()
    moment = world.clock.now() + 60 * SECOND
    late = await world.enqueue(discard_at=moment)
    running = await world.start(function, discard_at=moment, priority=1)
    assert await world.store.executions.next_due() == moment
    world.clock.advance(60)
    assert await world.claim(function) == []
    assert await world.store.executions.discard(moment) == 1
    assert (await world.store.executions.get(None, late.id)).state is State.DISCARDED
    assert (await world.end(running)).state is State.SUCCEED
    assert await world.store.executions.next_due() is None


async def test_a_retry_that_waits_has_started_and_is_not_discarded(world: Any) -> None:
    function = await world.live(retry=RetryPolicy(initial_interval=100.0))
    claimed = await world.start(function, discard_at=world.clock.now() + SECOND)
    execution = await world.end(claimed, Ending.RAISED, "{}")
    assert await world.store.executions.next_due() == execution.scheduled_at
    world.clock.advance(1000)
    assert await world.store.executions.discard(world.clock.now()) == 0
    await world.store.executions.promote(world.clock.now())
    assert len(await world.claim(function)) == 1


async def test_what_has_started_once_is_not_discarded(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(function, discard_at=world.clock.now() + SECOND)
    await world.end(claimed, Ending.INTERRUPTED)
    world.clock.advance(1)
    assert await world.store.executions.discard(world.clock.now()) == 0
    assert [again.id for again in await world.claim(function)] == [claimed.id]


async def test_cron_runs_at_its_moments_in_its_zone(world: Any) -> None:
    # 2023-11-14 22:13:20 UTC; eight in Paris is seven in UTC.
    function = await world.live("digest", cron="0 8 * * *", timezone="Europe/Paris")
    first = moment(2023, 11, 15, 7)
    assert function.next_cron_at == first == await world.store.executions.next_due()
    assert await world.store.executions.tick_cron(first - 1) == 0
    world.clock.advance(24 * HOUR)
    assert await world.store.executions.tick_cron(first) == 1
    function = await world.store.functions.by_id(function.id)
    assert (function.last_cron_at, function.next_cron_at) == (first, moment(2023, 11, 16, 7))
    (claimed,) = await world.claim(function)
    execution = await world.store.executions.get(None, claimed.id)
    assert (execution.cron_tick, execution.scheduled_at, execution.executed_by) == (first, first, "cron")
    assert await world.store.executions.arguments(claimed.id) == ("[]", "{}")


async def test_missed_ticks_run_once_as_the_latest(world: Any) -> None:
    await world.live("digest", cron="*/10 * * * *")
    await world.reopen()
    world.clock.advance(30 * 24 * HOUR)
    assert await world.store.executions.tick_cron(world.clock.now()) == 1
    assert await ticks(world) == [moment(2023, 12, 14, 22, 10)]
    assert await world.store.executions.next_due() == moment(2023, 12, 14, 22, 20)


async def test_a_tick_runs_once_though_the_clock_goes_back(world: Any) -> None:
    function = await world.live("digest", cron="0 * * * *")
    first = function.next_cron_at
    await world.store.executions.tick_cron(first)
    await world.store.environments.retire("shop")
    await world.store.environments.apply("shop", EnvironmentConfig(repository="/r"), "shop.toml")
    assert (await world.store.functions.by_id(function.id)).next_cron_at == first
    assert await world.store.executions.tick_cron(first) == 0
    assert await ticks(world) == [first]


async def test_a_build_keeps_the_moment_of_an_unchanged_cron_and_moves_a_changed_one(
    world: Any, make_spec: Any
) -> None:
    function = await world.live("digest", cron="0 * * * *")
    world.clock.advance(2 * HOUR)
    await world.publish(make_spec("digest", cron="0 * * * *"))
    assert (await world.store.functions.by_id(function.id)).next_cron_at == function.next_cron_at
    await world.publish(make_spec("digest", cron="30 * * * *"))
    assert (await world.store.functions.by_id(function.id)).next_cron_at == moment(2023, 11, 15, 0, 30)
    await world.publish(make_spec("digest"))
    assert (await world.store.functions.by_id(function.id)).next_cron_at is None


async def test_a_retired_environment_does_not_tick_and_starts_again_from_now(world: Any) -> None:
    function = await world.live("digest", cron="0 * * * *")
    await world.store.environments.retire("shop")
    world.clock.advance(5 * HOUR)
    assert await world.store.executions.next_due() is None
    assert await world.store.executions.tick_cron(world.clock.now()) == 0
    await world.store.environments.apply("shop", EnvironmentConfig(repository="/r"), "shop.toml")
    assert (await world.store.functions.by_id(function.id)).next_cron_at == moment(2023, 11, 15, 4)


async def test_cron_can_be_switched_off_and_on(world: Any) -> None:
    function = await world.live("digest", cron="0 * * * *")
    for cron, expected in ((False, None), (True, moment(2023, 11, 14, 23))):
        config = EnvironmentConfig(repository="/r", run=RunSettings(cron=cron))
        await world.store.environments.apply("shop", config, "shop.toml")
        assert (await world.store.functions.by_id(function.id)).next_cron_at == expected


async def test_a_bad_expression_changes_nothing(world: Any, make_spec: Any, make_manifest: Any) -> None:
    await world.live("digest", cron="0 * * * *")
    live = (await world.store.environments.get("shop")).live_build_id
    build = await world.request()
    await world.to_publishing(build)
    with pytest.raises(BuildError, match=r'cron "61 \* \* \* \*": bad minute; write five fields'):
        await world.store.builds.publish(build.id, make_manifest(make_spec("digest", cron="61 * * * *")))
    assert (await world.store.environments.get("shop")).live_build_id == live
    config = EnvironmentConfig(repository="/r", functions={"digest": {"timezone": "Mars/Phobos"}})
    with pytest.raises(Conflict, match='"Mars/Phobos" is no time zone'):
        await world.store.environments.apply("shop", config, "shop.toml")
