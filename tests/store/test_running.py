"""Claim and finish: the one way in, the one way out, and what follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from deferlite.model.clock import SECOND
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.events import ExecutionChanged, ExecutionsEnqueued
from deferlite.model.execution import Ending, ErrorCode, Outcome, State, error_result
from deferlite.sdk.retry import RetryPolicy
from deferlite.store import Want

pytestmark = pytest.mark.anyio

FAILURE = error_result("ValueError", "no such company", "Traceback …")
THREE = RetryPolicy(max_attempts=3, initial_interval=10.0, randomization_factor=0.5, multiplier=2.0)


async def test_the_claim_takes_the_highest_priority_first_then_the_oldest(world: Any) -> None:
    function = await world.live()
    old, urgent, new, low = [await world.enqueue(priority=priority) for priority in (0, 100, 0, -1)]
    claimed = await world.claim(function, 3)
    assert [item.id for item in claimed] == [urgent.id, old.id, new.id]
    assert [item.id for item in await world.claim(function, 3)] == [low.id]
    assert await world.claim(function, 3) == []


async def test_a_claimed_execution_has_all_that_is_needed_to_run_it(world: Any) -> None:
    function = await world.live()
    execution = await world.enqueue(arguments="[1]", keyword_arguments='{"b": 2}', parent_id="p")
    build = (await world.store.environments.get("shop")).live_build_id
    (claimed,) = await world.claim(function)
    assert (claimed.id, claimed.attempt, claimed.build_id) == (execution.id, 1, build)
    assert (claimed.arguments, claimed.keyword_arguments, claimed.parent_id) == ("[1]", '{"b": 2}', "p")
    (attempt,) = (await world.store.executions.attempts(execution.id)).items
    assert (attempt.number, attempt.state, attempt.sandbox) == (1, State.STARTED, "process")
    assert (await world.store.executions.get("shop", execution.id)).state is State.STARTED


async def test_a_delayed_one_is_not_claimed(world: Any) -> None:
    function = await world.live()
    await world.enqueue(scheduled_at=world.clock.now() + SECOND)
    assert await world.claim(function) == []


async def test_each_want_is_served_within_its_slots(world: Any) -> None:
    first = await world.live("a", "b")
    second = await world.store.functions.get("shop", "b")
    for name in "aaabbb":
        await world.enqueue(name)
    claimed = await world.store.executions.claim(
        [Want("shop", first.id, 2), Want("shop", second.id, 1), Want("shop", first.id, 0)], "boot", "process"
    )
    assert [item.function_name for item in claimed] == ["a", "a", "b"]


async def test_nothing_of_a_retired_environment_is_claimed_until_it_is_back(world: Any) -> None:
    function = await world.live()
    await world.enqueue()
    await world.store.environments.retire("shop")
    assert await world.claim(function) == []
    world.events.clear()
    await world.store.environments.apply("shop", EnvironmentConfig(repository="/r"), "shop.toml")
    assert function.id in world.heard(ExecutionsEnqueued)[0].function_ids
    assert len(await world.claim(function)) == 1


async def test_success(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(function)
    assert await world.store.executions.is_running(claimed.id, 1)
    world.clock.advance(2.5)
    outcome = Outcome(ending=Ending.RETURNED, result='{"n": 1}', cpu_time=0.25, memory_peak=1024)
    (execution,) = await world.store.executions.finish([(claimed.id, 1, outcome)])
    assert (execution.state, execution.error_code) == (State.SUCCEED, None)
    assert execution.finished_at == world.clock.now() == execution.started_at + 2.5 * SECOND
    assert await world.store.executions.result(execution.id) == '{"n": 1}'
    assert await world.store.executions.attempt_result(execution.id, 1) == '{"n": 1}'
    (attempt,) = (await world.store.executions.attempts(execution.id)).items
    assert (attempt.state, attempt.cpu_time, attempt.memory_peak) == (State.SUCCEED, 0.25, 1024)
    assert not await world.store.executions.is_running(claimed.id, 1)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (Ending.RAISED, ErrorCode.NON_ZERO_EXIT),
        (Ending.TIMED_OUT, ErrorCode.TIMEOUT),
        (Ending.OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY),
    ],
)
async def test_failure_without_retries(world: Any, ending: Ending, code: ErrorCode) -> None:
    function = await world.live()
    execution = await world.end(await world.start(function), ending, FAILURE)
    assert (execution.state, execution.error_code) == (State.FAILED, code)
    assert await world.store.executions.result(execution.id) == FAILURE
    assert await world.store.executions.attempt_result(execution.id, 1) == FAILURE


async def test_a_failure_runs_again_as_often_and_as_late_as_its_policy_says(world: Any) -> None:
    function = await world.live(retry=THREE)
    claimed = await world.start(function)
    for retry, interval in ((1, 10), (2, 20), (3, 40)):
        world.events.clear()
        execution = await world.end(claimed, Ending.RAISED, FAILURE)
        wait = (execution.scheduled_at - world.clock.now()) / SECOND
        assert (execution.state, execution.retries, execution.finished_at) == (State.CREATED, retry, None)
        assert interval * 0.5 <= wait <= interval * 1.5
        assert world.heard(ExecutionsEnqueued)[0].due_at == execution.scheduled_at
        assert await world.claim(function) == []
        world.clock.advance(wait)
        assert await world.store.executions.promote(world.clock.now()) == {function.id}
        (claimed,) = await world.claim(function)
    execution = await world.end(claimed, Ending.RAISED, FAILURE)
    assert (execution.state, execution.attempt, execution.retries) == (State.FAILED, 4, 3)
    attempts = (await world.store.executions.attempts(execution.id)).items
    assert [attempt.number for attempt in attempts] == [4, 3, 2, 1]
    assert {attempt.state for attempt in attempts} == {State.FAILED}


async def test_retries_follow_the_environment_files_settings(world: Any) -> None:
    function = await world.live()
    config = EnvironmentConfig(repository="/r", functions={"import_contacts": {"retry": THREE}})
    await world.store.environments.apply("shop", config, "shop.toml")
    execution = await world.end(await world.start(function), Ending.RAISED, FAILURE)
    assert execution.state is State.CREATED


async def test_a_stop_of_the_server_counts_as_nothing(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(function)
    for attempt in range(1, 6):
        execution = await world.end(claimed, Ending.INTERRUPTED, error_result("InterruptedError", "stop"))
        assert (execution.state, execution.retries, execution.interruptions) == (State.CREATED, 0, 0)
        (claimed,) = await world.claim(function)
        assert claimed.attempt == attempt + 1
    newest = (await world.store.executions.attempts(claimed.id)).items[1]
    assert (newest.state, newest.error_code, newest.interrupted) == (State.FAILED, ErrorCode.INTERNAL, True)


async def test_a_failure_of_the_runner_is_tried_again_but_not_for_ever(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(function)
    for count in (1, 2):
        execution = await world.end(claimed, Ending.INTERNAL, error_result("InternalError", "no runner"))
        assert (execution.state, execution.retries, execution.interruptions) == (State.CREATED, 0, count)
        (claimed,) = await world.claim(function)
    execution = await world.end(claimed, Ending.INTERNAL, error_result("InternalError", "no runner"))
    assert (execution.state, execution.error_code) == (State.FAILED, ErrorCode.INTERNAL)


async def test_whatever_ends_while_aborting_is_aborted(world: Any) -> None:
    function = await world.live(retry=THREE)
    for ending in Ending:
        claimed = await world.start(function)
        await world.store.executions.cancel("shop", claimed.id, True)
        execution = await world.end(claimed, ending, FAILURE)
        assert execution.state is State.ABORTED
        assert await world.store.executions.result(claimed.id) is None


async def test_an_ending_that_is_not_of_the_running_attempt_changes_nothing(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(function)
    done = Outcome(ending=Ending.RETURNED, result="1")
    finish = world.store.executions.finish
    assert await finish([(claimed.id, 2, done), (claimed.id, 0, done), ("unknown", 1, done)]) == []
    assert len(await finish([(claimed.id, 1, done), (claimed.id, 1, done)])) == 1
    late = Outcome(ending=Ending.RAISED, result=FAILURE)
    assert await finish([(claimed.id, 1, late)]) == []
    assert (await world.store.executions.get(None, claimed.id)).state is State.SUCCEED


async def test_many_endings_are_stored_together(world: Any) -> None:
    function = await world.live()
    for _ in range(5):
        await world.enqueue()
    claimed = await world.claim(function)
    endings = [(item.id, 1, Outcome(ending=Ending.RETURNED, result="1")) for item in claimed]
    world.events.clear()
    finished = await world.store.executions.finish(endings)
    assert [execution.id for execution in finished] == [item.id for item in claimed]
    assert [event.state for event in world.heard(ExecutionChanged)] == [State.SUCCEED] * 5


async def test_work_cut_off_by_a_crash_runs_again_and_says_so(world: Any) -> None:
    function = await world.live()
    claimed = await world.start(function)
    waiting = await world.enqueue()
    await world.reopen()
    recovered = await world.store.executions.recover("next boot")
    assert [(row.id, row.state, row.interruptions) for row in recovered] == [(claimed.id, State.CREATED, 1)]
    assert not await world.store.executions.is_running(claimed.id, 1)
    (attempt,) = (await world.store.executions.attempts(claimed.id)).items
    assert (attempt.state, attempt.error_code, attempt.interrupted) == (State.FAILED, ErrorCode.INTERNAL, True)
    result = await world.store.executions.attempt_result(claimed.id, 1)
    assert "the server ended while this attempt ran" in msgspec.json.decode(result)["message"]
    again = await world.claim(function, boot_id="next boot")
    assert [(item.id, item.attempt) for item in again] == [(claimed.id, 2), (waiting.id, 1)]
    assert await world.store.executions.recover("next boot") == []


async def test_three_crashes_are_enough(world: Any) -> None:
    function = await world.live()
    execution = await world.enqueue()
    for boot in ("one", "two", "three"):
        await world.claim(function, boot_id=boot)
        (recovered,) = await world.store.executions.recover("after " + boot)
    assert (recovered.id, recovered.state) == (execution.id, State.FAILED)
    assert (recovered.error_code, recovered.interruptions) == (ErrorCode.INTERNAL, 3)
    assert "the server ended 3 times" in str(await world.store.executions.result(execution.id))


async def test_an_abort_under_way_is_done_after_a_crash(world: Any) -> None:
    claimed = await world.start(await world.live())
    await world.store.executions.cancel("shop", claimed.id, True)
    (recovered,) = await world.store.executions.recover("next boot")
    assert recovered.state is State.ABORTED


async def test_an_execution_stays_on_the_build_it_started_on(world: Any, make_spec: Any) -> None:
    function = await world.live()
    claimed = await world.start(function)
    build = await world.publish(make_spec("import_contacts"))
    execution = await world.end(claimed)
    assert execution.build_id == claimed.build_id != build.id
    assert (await world.start(function)).build_id == build.id


async def test_what_lost_its_function_fails_once_with_a_sentence(world: Any, make_spec: Any) -> None:
    function = await world.live()
    due = await world.enqueue()
    delayed = await world.enqueue(scheduled_at=world.clock.now() + 60 * SECOND)
    running = await world.start(function, priority=1)
    await world.publish(make_spec("renamed"))
    states = [(await world.store.executions.get(None, row.id)).state for row in (due, delayed, running)]
    assert states == [State.FAILED, State.CREATED, State.STARTED]
    result = msgspec.json.decode(await world.store.executions.result(due.id))
    assert result["name"] == "UnknownFunctionError"
    assert 'has no function "import_contacts" any more' in result["message"]
    world.clock.advance(60)
    await world.store.executions.promote(world.clock.now())
    assert (await world.store.executions.get(None, delayed.id)).state is State.FAILED
    await world.end(running, Ending.INTERRUPTED)
    assert (await world.store.executions.get(None, running.id)).state is State.FAILED


async def test_a_retry_without_an_interval_is_due_at_once(world: Any) -> None:
    function = await world.live(retry=RetryPolicy(max_attempts=1, initial_interval=0))
    running = await world.start(function)
    await world.end(running, Ending.RAISED)
    assert [each.id for each in await world.claim(function)] == [running.id]
