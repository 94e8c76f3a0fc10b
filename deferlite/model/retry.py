"""What follows the end of an attempt: done, failed, again later, or back into the queue."""

from __future__ import annotations

import msgspec

from deferlite.model.clock import SECOND
from deferlite.model.execution import ERROR_CODES, MAX_INTERRUPTIONS, Ending, ErrorCode, State
from deferlite.sdk.retry import RetryPolicy


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The execution's next state. In state created ``scheduled_at`` says when; None is at once."""

    state: State
    attempt_state: State
    error_code: ErrorCode | None = None
    """Of the attempt, and of the execution where it is failed."""
    interrupted: bool = False
    retries: int
    interruptions: int
    scheduled_at: int | None = None


def decide(
    state: State,
    ending: Ending,
    policy: RetryPolicy,
    *,
    retries: int,
    interruptions: int,
    now: int,
    spread: float,
) -> Verdict:
    """What becomes of an execution in ``state`` started or aborting whose attempt ended.

    ``spread`` is a random number in [0, 1), ``now`` microseconds.

    A planned stop counts as nothing; a failure that is not the function's counts as an interruption, and
    ``MAX_INTERRUPTIONS`` of them fail the execution; only the function's own failures use up its retries.
    Whatever is aborting becomes aborted, however it ended.
    """
    if state is State.ABORTING:
        return _ended(State.ABORTED, retries, interruptions)
    if ending is Ending.RETURNED:
        return _ended(State.SUCCEED, retries, interruptions)
    if ending is Ending.INTERRUPTED:
        return _back(retries, interruptions)
    if ending in (Ending.INTERNAL, Ending.ABORTED):
        # Nobody asked for an abort: whoever ended the process was not the function.
        return interrupted(retries, interruptions)
    code = ERROR_CODES[ending]
    if retries >= policy.max_attempts:
        return _failed(code, retries, interruptions)
    again_at = now + round(policy.interval(retries + 1, spread) * SECOND)
    failed = _failed(code, retries + 1, interruptions)
    return msgspec.structs.replace(failed, state=State.CREATED, scheduled_at=again_at)


def interrupted(retries: int, interruptions: int) -> Verdict:
    """The attempt was cut off: again at once, without using up a retry, but not for ever."""
    counted = min(interruptions + 1, MAX_INTERRUPTIONS)
    if counted < MAX_INTERRUPTIONS:
        return _back(retries, counted)
    return msgspec.structs.replace(_failed(ErrorCode.INTERNAL, retries, counted), interrupted=True)


def _ended(state: State, retries: int, interruptions: int) -> Verdict:
    return Verdict(state=state, attempt_state=state, retries=retries, interruptions=interruptions)


def _back(retries: int, interruptions: int) -> Verdict:
    failed = _failed(ErrorCode.INTERNAL, retries, interruptions)
    return msgspec.structs.replace(failed, state=State.CREATED, interrupted=True)


def _failed(code: ErrorCode, retries: int, interruptions: int) -> Verdict:
    return Verdict(
        state=State.FAILED,
        attempt_state=State.FAILED,
        error_code=code,
        retries=retries,
        interruptions=interruptions,
    )
