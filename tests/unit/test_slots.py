"""The bookkeeping of slots: three limits, fair shares, parked parents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deferlite.model.environment import RunSettings
from deferlite.model.function import FunctionOptions
from deferlite.scheduler.slots import Holder, Slots


def slots(limit: int, **lanes: dict[str, int | None]) -> Slots:
    """Lanes by name, each with its functions and their concurrency."""
    made = Slots(limit)
    for name, functions in lanes.items():
        lane = made.lane(name)
        lane.run = RunSettings(concurrency=10)
        lane.options = {f"{name}.{f}": FunctionOptions(concurrency=limit) for f, limit in functions.items()}
        lane.hope(lane.options)
    return made


def shares(made: Slots) -> dict[str, int]:
    return {function_id: count for _, function_id, count in made.shares()}


def test_one_busy_environment_gets_all_the_server_has() -> None:
    assert shares(slots(6, a={"f": None})) == {"a.f": 6}


def test_two_busy_environments_get_half_each() -> None:
    assert shares(slots(6, a={"f": None, "g": None, "h": None}, b={"f": None})) == {
        "a.f": 1, "a.g": 1, "a.h": 1, "b.f": 3,
    }  # fmt: skip


def test_the_limit_of_a_function_leaves_its_slots_to_the_others() -> None:
    assert shares(slots(6, a={"f": 1, "g": None})) == {"a.f": 1, "a.g": 5}


def test_the_limit_of_an_environment_holds() -> None:
    made = slots(100, a={"f": None})
    assert shares(made) == {"a.f": 10}
    for _ in range(10):
        made.take(Holder("a", "a.f"))
    assert shares(made) == {}


def test_one_free_slot_at_a_time_goes_round() -> None:
    made = slots(1, a={"f": None}, b={"f": None})
    first, second = shares(made), shares(made)
    assert {*first, *second} == {"a.f", "b.f"}


def test_a_parked_parent_holds_nothing_and_is_counted_once() -> None:
    made = slots(1, a={"f": 1})
    parent = Holder("a", "a.f")
    made.take(parent)
    assert not made.has_room_for(parent)
    made.give_back(parent)
    made.give_back(parent)
    assert (made.held, made.lane("a").held, made.has_room_for(parent)) == (0, 0, True)


@given(
    limit=st.integers(1, 20),
    environment_limit=st.integers(1, 20),
    functions=st.lists(
        st.lists(st.one_of(st.none(), st.integers(1, 5)), min_size=1, max_size=4), min_size=1, max_size=4
    ),
)
def test_no_share_is_over_any_limit_and_none_is_wasted(
    limit: int, environment_limit: int, functions: list[list[int | None]]
) -> None:
    made = slots(limit, **{f"e{i}": {f"f{j}": c for j, c in enumerate(row)} for i, row in enumerate(functions)})
    for lane in made.lanes.values():
        lane.run = RunSettings(concurrency=environment_limit)
    dealt = shares(made)
    by_lane = {name: sum(n for f, n in dealt.items() if f.startswith(f"{name}.")) for name in made.lanes}
    possible = sum(min(environment_limit, sum(environment_limit if c is None else c for c in row)) for row in functions)
    assert sum(dealt.values()) == min(limit, possible)
    assert all(n <= environment_limit for n in by_lane.values())
    for lane in made.lanes.values():
        assert all(dealt.get(f, 0) <= lane.free_of(f) for f in lane.options)
