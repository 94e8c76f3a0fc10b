"""Former names: what waits under them goes on under the new one, forwards and back."""

from __future__ import annotations

from typing import Any

import pytest

from deferlite.model.clock import SECOND
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import UnknownFunction
from deferlite.model.events import ExecutionsEnqueued
from deferlite.model.execution import Ending, Execution, NewExecution, State
from deferlite.sdk.retry import RetryPolicy
from deferlite.store import timing

pytestmark = pytest.mark.anyio


async def get(world: Any, *executions: Any) -> list[Execution]:
    return [await world.store.executions.get(None, each.id) for each in executions]


async def test_all_that_waits_is_taken_over_and_history_stays(world: Any, make_spec: Any) -> None:
    send = await world.live("send", retry=RetryPolicy(max_attempts=5))
    ended = await world.start(send)
    await world.end(ended)
    retrying = await world.start(send)
    await world.end(retrying, Ending.RAISED)
    running = await world.start(send)
    queued = await world.enqueue("send", priority=3, concurrency_key="k", metadata={"a": "b"})
    delayed = await world.enqueue("send", scheduled_at=world.clock.now() + 60 * SECOND)
    await world.publish(make_spec("mail", aliases=["send"], retry=RetryPolicy(max_attempts=5)))
    mail = await world.store.functions.get("shop", "mail")
    found = await get(world, queued, delayed, retrying, running, ended)
    assert [row.function_name for row in found] == ["mail", "mail", "mail", "send", "send"]
    assert [row.function_id for row in found] == [mail.id] * 3 + [send.id] * 2
    assert (found[0].priority, found[0].concurrency_key, found[0].metadata) == (3, "k", {"a": "b"})
    assert found[1].scheduled_at == delayed.scheduled_at
    assert (found[2].attempt, found[2].retries) == (1, 1)
    await world.check_counters()
    heard = [event for event in world.heard(ExecutionsEnqueued) if mail.id in event.function_ids]
    assert heard != []
    # What ran meanwhile goes on under the new name, by a retry and by an interruption.
    assert (await world.end(running, Ending.RAISED)).function_name == "mail"
    claimed = await world.claim(mail)
    assert {(each.id, each.function_name) for each in claimed} == {(queued.id, "mail")}
    assert (await world.end(claimed[0], Ending.INTERRUPTED)).function_id == mail.id
    await world.check_counters()


@pytest.mark.parametrize("ending", [Ending.RAISED, Ending.INTERRUPTED, Ending.INTERNAL])
async def test_what_ran_during_the_rename_runs_again_under_the_new_name(
    world: Any, make_spec: Any, ending: Ending
) -> None:
    running = await world.start(await world.live("send"))
    await world.publish(make_spec("mail", aliases=["send"], retry=RetryPolicy(max_attempts=5)))
    back = await world.end(running, ending)
    mail = await world.store.functions.get("shop", "mail")
    assert (back.state, back.function_name, back.function_id) == (State.CREATED, "mail", mail.id)
    await world.store.executions.promote(back.scheduled_at)
    (again,) = await world.claim(mail)
    build = await world.store.builds.manifest(again.build_id)
    assert again.function_name in {spec.name for spec in build.functions}
    await world.check_counters()


async def test_what_a_crash_cut_off_goes_to_the_new_name(world: Any, make_spec: Any) -> None:
    running = await world.start(await world.live("send"))
    await world.publish(make_spec("mail", aliases=["send"]))
    await world.reopen()
    (back,) = await world.store.executions.recover("next boot")
    assert (back.id, back.function_name, back.state) == (running.id, "mail", State.CREATED)
    await world.check_counters()


async def test_a_rollback_gives_them_back_and_a_resume_takes_them_again(world: Any, make_spec: Any) -> None:
    send = await world.live("send")
    waiting = await world.enqueue("send")
    await world.publish(make_spec("mail", aliases=["send"]))
    fresh = await world.enqueue("mail")
    assert (await world.store.builds.rollback("shop", None)).findings == ()
    found = await get(world, waiting, fresh)
    assert [(row.state, row.function_id, row.function_name) for row in found] == [(State.CREATED, send.id, "send")] * 2
    assert (await world.enqueue("mail")).function_name == "send"
    await world.store.builds.resume("shop")
    assert [row.function_name for row in await get(world, waiting, fresh)] == ["mail"] * 2
    await world.check_counters()


@pytest.mark.parametrize("aliases", [["a", "b"], ["b"]])
async def test_a_chain_of_renames(world: Any, make_spec: Any, aliases: list[str]) -> None:
    a = await world.live("a", retry=RetryPolicy())
    running, first = await world.start(a), await world.enqueue("a")
    await world.publish(make_spec("b", aliases=["a"]))
    second = await world.enqueue("b")
    await world.publish(make_spec("c", aliases=aliases, retry=RetryPolicy()))
    third = await world.enqueue("a")
    found = await get(world, first, second, third)
    assert [(row.state, row.function_name) for row in found] == [(State.CREATED, "c")] * 3
    assert (await world.end(running, Ending.RAISED)).function_name == "c"
    await world.check_counters()


async def test_an_older_producer_enqueues_under_the_former_name(world: Any, make_spec: Any) -> None:
    await world.live("send")
    before = await world.enqueue("send", idempotency_key="k")
    await world.publish(make_spec("mail", aliases=["send", "never_seen"]))
    assert (await world.enqueue("send", idempotency_key="k")).id == before.id
    assert (await world.enqueue("mail", idempotency_key="k")).id == before.id
    assert (await world.enqueue("send")).function_name == "mail"
    assert (await world.enqueue("never_seen")).function_name == "mail"
    rerun = await world.store.executions.rerun("shop", before.id)
    assert rerun.function_name == "mail"
    await world.publish(make_spec("mail"))
    with pytest.raises(UnknownFunction):
        await world.enqueue("send")
    await world.check_counters()


async def test_an_active_function_keeps_its_name_and_a_doubled_alias_has_one_heir(world: Any, make_spec: Any) -> None:
    await world.live("a", "old")
    own, shared = await world.enqueue("a"), await world.enqueue("old")
    await world.publish(make_spec("a"), make_spec("b", aliases=["a", "old"]), make_spec("c", aliases=["old"]))
    assert [row.function_name for row in await get(world, own, shared)] == ["a", "b"]
    await world.check_counters()


async def test_orphans_come_home_when_a_later_build_names_them(world: Any, make_spec: Any) -> None:
    await world.live("send")
    delayed = await world.enqueue("send", scheduled_at=world.clock.now() + 60 * SECOND)
    await world.publish(make_spec("mail"))
    await world.publish(make_spec("mail", aliases=["send"]))
    assert [row.function_name for row in await get(world, delayed)] == ["mail"]


async def test_settings_do_not_lose_former_names(world: Any, make_spec: Any) -> None:
    await world.live("send")
    await world.publish(make_spec("mail", aliases=["send"]))
    await world.store.environments.apply("shop", EnvironmentConfig(repository="/other"), "shop.toml")
    assert (await world.enqueue("send")).function_name == "mail"


async def test_a_renamed_cron_function_neither_skips_nor_doubles_a_tick(world: Any, make_spec: Any) -> None:
    daily = {"cron": "0 8 * * *"}
    report = await world.live("report", **daily)
    first = report.next_cron_at
    world.clock.advance((first - world.clock.now()) / SECOND + 1)
    await world.store.executions.tick_cron(world.clock.now())
    planned = (await world.store.functions.get("shop", "report")).next_cron_at
    # It is due, and nobody has looked yet, when the build goes live.
    world.clock.advance(86400 + 60)
    await world.publish(make_spec("digest", aliases=["report"], **daily))
    digest = await world.store.functions.get("shop", "digest")
    assert (digest.next_cron_at, digest.last_cron_at) == (planned, first)
    assert await world.store.executions.tick_cron(world.clock.now()) == 1
    await world.store.builds.rollback("shop", None)
    report = await world.store.functions.get("shop", "report")
    assert (report.last_cron_at, await world.store.executions.tick_cron(world.clock.now())) == (planned, 0)
    rows = await world.store.executions._database.rows("SELECT function_name, cron_tick FROM executions ORDER BY seq")
    assert rows == [("report", first), ("report", planned)]
    await world.check_counters()


async def test_a_tick_of_two_functions_that_become_one_is_kept_twice(world: Any, make_spec: Any) -> None:
    daily = {"cron": "0 8 * * *", "retry": RetryPolicy()}
    a = await world.live("a", "b", **daily)
    world.clock.advance(86400)
    assert await world.store.executions.tick_cron(world.clock.now()) == 2
    await world.publish(make_spec("b", aliases=["a"], **daily))
    b = await world.store.functions.get("shop", "b")
    claimed = await world.claim(b)
    assert len(claimed) == 2
    await world.store.builds.rollback("shop", None)
    for each in claimed:
        assert (await world.end(each, Ending.RAISED)).function_name == "b"
    await world.publish(make_spec("a", aliases=["b"], **daily))
    await world.check_counters()
    assert (await world.store.functions.get("shop", "a")).id == a.id


async def test_ticks_of_one_moment_that_wait_for_two_functions_both_wait_for_the_one_they_become(
    world: Any, make_spec: Any
) -> None:
    daily = {"cron": "0 8 * * *"}
    await world.live("a", "b", **daily)
    world.clock.advance(86400)
    assert await world.store.executions.tick_cron(world.clock.now()) == 2
    await world.publish(make_spec("c", aliases=["a", "b"], **daily))
    rows = await world.store.executions._database.rows("SELECT function_name, cron_tick IS NULL FROM executions")
    assert sorted(rows) == [("c", 0), ("c", 1)]
    await world.check_counters()


async def test_what_a_release_that_was_given_up_left_goes_on_with_the_next_look_of_the_timers(
    world: Any, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "MOST_SETTLED", 10)
    await world.live("send", "gone")
    items = [NewExecution(function_name=name) for name in ("send", "gone") for _ in range(35)]
    await world.store.executions.enqueue("shop", items)

    async def nothing(database: object) -> None:
        pass

    with monkeypatch.context() as patched:
        patched.setattr(timing, "settle_all", nothing)
        await world.publish(make_spec("mail", aliases=["send"]))
    await world.store.executions.promote(world.clock.now())
    counts = (await world.store.statistics.environments())["shop"]
    assert counts == {State.CREATED: 35, State.FAILED: 35}
    await world.check_counters()
    assert len(await world.claim(await world.store.functions.get("shop", "mail"), 100)) == 35


async def test_a_long_queue_moves_in_pieces_that_survive_a_crash(
    world: Any, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "MOST_SETTLED", 10)
    await world.live("send", "gone")
    items = [NewExecution(function_name=name) for name in ("send", "gone") for _ in range(35)]
    await world.store.executions.enqueue("shop", items)
    await world.publish(make_spec("mail", aliases=["send"]))
    await world.check_counters()
    counts = (await world.store.statistics.environments())["shop"]
    assert counts == {State.CREATED: 35, State.FAILED: 35}
    assert (await world.enqueue("send")).function_name == "mail"
