"""The schema and the named queries: columns match the words of the model, hot queries walk their index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from deferlite.store import statements
from deferlite.store.connection import open_database

GROUPS = {name: group for name, group in vars(statements).items() if name.isupper() and isinstance(group, dict)}
QUERIES = [(name, query) for name, group in GROUPS.items() for query in group]
STORE = Path(statements.__file__).parent


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "deferlite.db")
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    names = dict.fromkeys(re.findall(r":(\w+)", sql))
    parameters = names or (None,) * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]


@pytest.mark.parametrize(("group", "query"), QUERIES)
def test_every_named_query_fits_the_schema(connection: sqlite3.Connection, group: str, query: str) -> None:
    plan(connection, GROUPS[group][query])


def test_every_named_query_is_used() -> None:
    code = "".join(path.read_text() for path in STORE.glob("*.py"))
    unused = [query for _, query in QUERIES if f'"{query}"' not in code]
    assert unused == []


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("claim", "executions_claim"),
        ("same_key", "executions_key"),
        ("promote", "executions_timer"),
        ("discard", "executions_discard"),
        ("cancel_excess", "executions_claim"),
        ("take_over", "executions_function"),
        ("fail_orphans", "executions_claim"),
        ("left_running", "executions_running"),
        ("children", "executions_parent"),
        ("due_crons", "functions_cron"),
    ],
)
def test_hot_queries_walk_their_index(connection: sqlite3.Connection, query: str, index: str) -> None:
    steps = plan(connection, statements.EXECUTIONS[query])
    assert any(index in step for step in steps), steps


def test_the_timers_look_at_one_row_of_each_index(connection: sqlite3.Connection) -> None:
    steps = " ".join(plan(connection, statements.EXECUTIONS["next_due"]))
    for index in ("executions_timer", "executions_discard", "functions_cron"):
        assert index in steps
