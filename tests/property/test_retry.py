"""Retries: intervals within their bounds, and a verdict for every ending."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deferlite.model.clock import SECOND
from deferlite.model.execution import ERROR_CODES, MAX_INTERRUPTIONS, TRANSITIONS, Ending, State
from deferlite.model.retry import decide
from deferlite.sdk.retry import RetryPolicy

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(0, 50),
    initial_interval=st.floats(0, 1e6),
    randomization_factor=st.floats(0, 1),
    multiplier=st.floats(1, 100),
    max_interval=st.floats(0, 1e6),
)
spreads = st.floats(0, 1, exclude_max=True)
NOW = 1_700_000_000 * SECOND


@given(policies, st.integers(1, 5000), spreads)
def test_an_interval_is_spread_around_its_growth_and_capped(policy: RetryPolicy, retry: int, spread: float) -> None:
    interval = policy.interval(retry, spread)
    largest = min(policy.max_interval, max(policy.initial_interval, policy.max_interval))
    assert 0 <= interval <= largest * (1 + policy.randomization_factor) * 1.000001


@given(policies, st.integers(1, 40))
def test_intervals_grow_until_they_are_capped(policy: RetryPolicy, retry: int) -> None:
    assert policy.interval(retry + 1, 0.5) >= policy.interval(retry, 0.5) * 0.999999


@given(
    state=st.sampled_from([State.STARTED, State.ABORTING]),
    ending=st.sampled_from(Ending),
    policy=policies,
    retries=st.integers(0, 60),
    interruptions=st.integers(0, MAX_INTERRUPTIONS - 1),
    spread=spreads,
)
def test_every_ending_has_a_lawful_sequel(
    state: State, ending: Ending, policy: RetryPolicy, retries: int, interruptions: int, spread: float
) -> None:
    verdict = decide(state, ending, policy, retries=retries, interruptions=interruptions, now=NOW, spread=spread)
    assert verdict.state in TRANSITIONS[state]
    assert (verdict.error_code is not None) == (verdict.attempt_state is State.FAILED)
    assert retries <= verdict.retries <= max(retries, policy.max_attempts)
    assert interruptions <= verdict.interruptions <= MAX_INTERRUPTIONS
    if verdict.scheduled_at is not None:
        assert verdict.scheduled_at >= NOW
        assert verdict.retries == retries + 1
        assert verdict.error_code is ERROR_CODES[ending]
    if verdict.interrupted:
        assert verdict.retries == retries
    if ending is Ending.INTERRUPTED and state is State.STARTED:
        assert (verdict.state, verdict.interruptions) == (State.CREATED, interruptions)


@given(policies, spreads)
def test_a_function_that_always_fails_ends_after_its_retries(policy: RetryPolicy, spread: float) -> None:
    retries = tries = 0
    while True:
        tries += 1
        verdict = decide(State.STARTED, Ending.RAISED, policy, retries=retries, interruptions=0, now=NOW, spread=spread)
        if verdict.state is State.FAILED:
            break
        retries = verdict.retries
    assert tries == policy.max_attempts + 1
