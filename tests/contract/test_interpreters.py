"""Every Python of this machine, from 3.10 on: functions are found, and run by the real runner."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deferlite.model.execution import Ending
from tests.contract.benches import REPOSITORY, Bench, MakeBench, Plans
from tests.discovering import Discovery
from tests.support import interpreters

pytestmark = pytest.mark.anyio
PYTHONS = interpreters()

JOBS = """
from __future__ import annotations
import asyncio, enum, logging, sys
from collections.abc import Iterable
from deferlite import defer

@defer(retry=3, concurrency=2)
def add(first: int, /, second: int | None = 2, *rest: int, factor: int = 1, **more: str) -> int:
    return (first + second + sum(rest)) * factor

@defer
async def later(value: str = "now") -> str:
    await asyncio.sleep(0)
    return value

@defer.cron("0 8 * * *", timezone="Europe/Paris")
def fail() -> None:
    raise KeyError("no such key")

@defer
def talk(lines: int):
    logging.getLogger("shop").warning("%d lines", lines)
    for line in produce(lines):
        print(line)
    return list(produce(lines))

def produce(lines: int) -> Iterable[str]:
    for number in range(lines):
        yield f"line {number} é"

@defer
def python() -> list[int]:
    return list(sys.version_info[:2])

class Jobs:
    @staticmethod
    @defer(name="inside")
    def member(text: str) -> str:
        return text.upper()
"""

FILES = {
    "shop.py": "raise SystemExit('src comes first')\n",
    "src/shop/__init__.py": "",
    "src/shop/jobs.py": JOBS,
    "src/shop/web.py": "from shop.jobs import add\n",
}


@pytest.fixture(params=sorted(PYTHONS, key=lambda version: int(version.partition(".")[2])))
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def at_work(make_bench: MakeBench, tmp_path: Path, python: str) -> AsyncIterator[Bench]:
    """An executor with the project as the builder would have found it."""
    discover, plans = Discovery(tmp_path, PYTHONS[python]), Plans()
    found = discover(FILES)
    paths = (*discover.import_paths(found), REPOSITORY)
    plans.add("shop", discover.repository, *found["modules"], interpreter=Path(PYTHONS[python]), import_paths=paths)
    async with make_bench(plans) as bench:
        yield bench


def test_functions_are_found(tmp_path: Path, python: str) -> None:
    found = Discovery(tmp_path, PYTHONS[python])(FILES)
    assert found["interpreter"].startswith(f"CPython {python}.")
    by_name = {one["name"]: one for one in found["functions"]}
    assert sorted(by_name) == ["add", "fail", "inside", "later", "python", "talk"]
    assert by_name["add"]["parameters"] == [
        {"name": "first", "kind": "positional_only", "annotation": "int"},
        {"name": "second", "kind": "positional_or_keyword", "annotation": "int | None", "default": "2"},
        {"name": "rest", "kind": "var_positional", "annotation": "int"},
        {"name": "factor", "kind": "keyword_only", "annotation": "int", "default": "1"},
        {"name": "more", "kind": "var_keyword", "annotation": "str"},
    ]
    assert [name for name, one in by_name.items() if one["is_async"]] == ["later"]
    assert by_name["inside"]["attribute"] == "Jobs.member"
    assert (found["modules"], found["import_paths"]) == (["shop.jobs"], ["src", "."])


@pytest.mark.parametrize(
    "source", ["1 / 0\n", "import socket; socket.create_server(('', 8123))\n", "while True: pass\n"]
)
def test_what_goes_wrong_is_told(tmp_path: Path, python: str, source: str) -> None:
    files = {"jobs.py": f"from deferlite import defer\n\n{source}"}
    error = Discovery(tmp_path, PYTHONS[python])(files, patience=0.3)["error"]
    assert error.startswith("cannot import jobs: ") and "(jobs.py, line 3)" in error


async def test_functions_run(make_bench: MakeBench, tmp_path: Path, python: str) -> None:
    async with at_work(make_bench, tmp_path, python) as bench:
        wanted = {
            ("add", 40): 42,
            ("later", "then"): "then",
            ("python",): [int(part) for part in python.split(".")],
            ("Jobs.member", "loud"): "LOUD",
        }
        for (attribute, *arguments), expected in wanted.items():
            outcome = await bench.run(attribute, *arguments, build="shop", module="shop.jobs")
            assert (outcome.ending, json.loads(outcome.result)) == (Ending.RETURNED, expected)


async def test_errors_and_output_are_told(make_bench: MakeBench, tmp_path: Path, python: str) -> None:
    async with at_work(make_bench, tmp_path, python) as bench:
        outcome = await bench.run("fail", build="shop", module="shop.jobs")
        error = json.loads(outcome.result)
        assert (outcome.ending, error["name"], error["message"]) == (Ending.RAISED, "KeyError", "'no such key'")
        assert "jobs.py" in error["stack"]
        talk = bench.start("talk", 3, build="shop", module="shop.jobs")
        outcome = await bench.sink.outcome(talk)
        lines = [f"line {number} é" for number in range(3)]
        assert json.loads(outcome.result) == bench.sink.texts(talk, "stdout") == lines
        assert bench.sink.texts(talk, "logging") == ["3 lines"]
