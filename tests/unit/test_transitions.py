"""One table of states: the enum, the transitions, the database's CHECKs and the documents say the same."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

import pytest

from deferlite.model.build import BUILD_TRANSITIONS, BuildState, Trigger
from deferlite.model.environment import EnvironmentState
from deferlite.model.execution import MAX_INTERRUPTIONS, TERMINAL, TRANSITIONS, ErrorCode, State

SCHEMA = resources.files("deferlite.store.migrations").joinpath("0001.sql").read_text()


def check_of(table: str, column: str) -> set[str]:
    """The values that ``column IN (…)`` of the column's own CHECK lists."""
    body = re.search(rf"CREATE TABLE {table} \((.*?)\n\) STRICT", SCHEMA, re.DOTALL)
    assert body is not None
    values = re.search(rf"^\s+{column}\s.*?CHECK \({column} IN \((.*?)\)", body[1], re.DOTALL | re.MULTILINE)
    assert values is not None
    return set(re.findall(r"'([^']+)'", values[1]))


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        ("executions", "state", set(State)),
        ("executions", "error_code", set(ErrorCode)),
        ("attempts", "state", {State.STARTED, State.SUCCEED, State.FAILED, State.ABORTED}),
        ("attempts", "error_code", set(ErrorCode)),
        ("builds", "state", set(BuildState)),
        ("builds", "build_trigger", set(Trigger)),
        (
            "build_steps",
            "state",
            set(BuildState) - {BuildState.CREATED, BuildState.SUCCEED, BuildState.FAILED},
        ),
        ("environments", "state", set(EnvironmentState)),
    ],
)
def test_a_check_lists_the_states_of_the_model(table: str, column: str, values: set[str]) -> None:
    assert check_of(table, column) == {value.value for value in values}  # type: ignore[attr-defined]


def test_terminal_states_are_the_ones_with_an_end() -> None:
    finished = re.search(
        r"CHECK \(\(state IN \(([^)]*)\)\) = \(finished_at IS NOT NULL\)\)", SCHEMA.split("executions (")[1]
    )
    assert finished is not None
    assert set(re.findall(r"'(\w+)'", finished[1])) == {state.value for state in TERMINAL}


def test_a_counter_is_kept_for_every_state() -> None:
    trigger = SCHEMA.split("CREATE TRIGGER functions_count")[1].split("END;")[0]
    assert set(re.findall(r"new\.id, '(\w+)'", trigger)) == {state.value for state in State}


def test_interruptions_end_where_the_check_ends() -> None:
    assert f"interruptions BETWEEN 0 AND {MAX_INTERRUPTIONS}" in SCHEMA


def test_every_state_can_be_reached_and_left_unless_it_is_the_end() -> None:
    for table, start in ((TRANSITIONS, State.CREATED), (BUILD_TRANSITIONS, BuildState.CREATED)):
        reached, ahead = {start}, [start]
        while ahead:
            for following in table[ahead.pop()]:  # type: ignore[index]
                if following not in reached:
                    reached.add(following)
                    ahead.append(following)
        assert reached == set(type(start))
        assert set(table) == set(type(start))


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ("created", "finished_at = 1"),
        ("created", "result = '1'"),
        ("created", "error_code = 'ER0003'"),
        ("started", "attempt = 0"),
        ("started", "started_at = NULL"),
        ("started", "build_id = NULL"),
        ("started", "ready = 1"),
        ("started", "result = '1'"),
        ("aborting", "finished_at = 1"),
        ("succeed", "result = NULL"),
        ("succeed", "error_code = 'ER0003'"),
        ("succeed", "finished_at = NULL"),
        ("failed", "error_code = NULL"),
        ("failed", "error_code = 'ER9999'"),
        ("failed", "result = NULL"),
        ("cancelled", "finished_at = NULL"),
        ("cancelled", "result = '1'"),
        ("aborted", "build_id = NULL"),
        ("discarded", "finished_at = NULL"),
        ("created", "priority = 101"),
        ("started", "interruptions = 4"),
        ("started", "retries = 9"),
        ("unknown", "finished_at = 1"),
    ],
)
def test_an_impossible_execution_is_refused(state: str, fields: str) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    ended = state in {terminal.value for terminal in TERMINAL}
    good = {
        "id": "e",
        "environment": "shop",
        "function_id": "f",
        "function_name": "f",
        "state": state,
        "ready": 0,
        "scheduled_at": 0,
        "created_at": 0,
        "updated_at": 0,
        "arguments": "[]",
        "keyword_arguments": "{}",
        "attempt": 1,
        "started_at": 1,
        "build_id": "b",
        "finished_at": 1 if ended else None,
        "result": "1" if state in ("succeed", "failed") else None,
        "error_code": "ER0003" if state == "failed" else None,
    }
    columns, values = ", ".join(good), ", ".join(f":{name}" for name in good)
    insert = f"INSERT INTO executions ({columns}) VALUES ({values})"
    if state in {known.value for known in State}:
        connection.execute(insert, good)
        with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
            connection.execute(f"UPDATE executions SET {fields}")
    else:
        with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
            connection.execute(insert, good)
    connection.close()
