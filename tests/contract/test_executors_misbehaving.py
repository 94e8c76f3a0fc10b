"""examples/misbehaving against every executor: each case ends as its README says, and nothing of it is left."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deferlite.model.execution import Ending
from tests.contract.benches import Bench

pytestmark = pytest.mark.anyio

README = Path(__file__).parents[2] / "examples" / "misbehaving" / "README.md"

RAISED, RETURNED, TIMED_OUT = Ending.RAISED, Ending.RETURNED, Ending.TIMED_OUT

CASES = {
    "exits": (RAISED, "NonZeroExit", "exited with status 3"),
    "exits_at_once": (RAISED, "NonZeroExit", "exited with status 7 before the function returned"),
    "exits_happily": (RETURNED, None, None),
    "segfaults": (RAISED, "KilledBySignal", "killed by SIGSEGV"),
    "kills_itself": (RAISED, "KilledBySignal", "killed by SIGKILL"),
    "hangs": (TIMED_OUT, "TimeoutError", "ran longer than its max_duration of 0.5 s"),
    "spins": (TIMED_OUT, "TimeoutError", "ran longer than its max_duration of 0.5 s"),
    "ignores_sigterm": (TIMED_OUT, "TimeoutError", "ran longer than its max_duration of 0.5 s"),
    "stops_itself": (TIMED_OUT, "TimeoutError", "ran longer than its max_duration of 0.5 s"),
    "forks": (RETURNED, None, None),
    "leaves_children": (RETURNED, None, None),
    "floods": (RETURNED, None, None),
    "eats_memory": (Ending.OUT_OF_MEMORY, "MemoryError", "more than the 512 MiB allowed by [run] memory"),
    "shares_memory_hunger": (Ending.OUT_OF_MEMORY, "MemoryError", "more than the 512 MiB allowed by [run] memory"),
    "returns_not_json": (RAISED, "TypeError", "Object of type object is not JSON serializable"),
    "returns_nan": (RAISED, "TypeError", "returned something that is not JSON"),
    "returns_number_keys": (RAISED, "TypeError", "the key 1, which is of type int"),
    "too_big_result": (RAISED, "ValueError", "returned 9.0 MiB of JSON, more than the 8 MiB allowed"),
    "prints_rubbish": (RETURNED, None, None),
    "scribbles_on_descriptors": (RAISED, "RuntimeError", "not a frame"),
    "outlasts_its_function": (RETURNED, None, None),
}


@pytest.mark.parametrize("function", CASES)
async def test_it_ends_as_the_readme_says_and_leaves_no_process(bench: Bench, function: str) -> None:
    await bench.run("exits_happily")
    at_rest = len(bench.plans.processes())
    ending, name, message = CASES[function]
    limit = 0.5 if ending is TIMED_OUT else 30.0
    outcome = await bench.run(function, max_duration=limit)
    assert outcome.ending == ending, outcome.result
    if name is not None and message is not None:
        error = json.loads(outcome.result)
        assert error["name"] == name
        assert message in error["message"]
    assert len(bench.plans.processes()) == at_rest
    assert (await bench.run("exits_happily")).ending == RETURNED


async def test_an_error_has_its_cause_and_only_the_users_frames(bench: Bench) -> None:
    outcome = await bench.run("raises", "A7")
    error = json.loads(outcome.result)
    assert outcome.ending == RAISED
    assert (error["name"], error["message"]) == ("OrderLost", "no order A7")
    assert "KeyError: 'A7'" in error["stack"]
    files = set(re.findall(r'File "([^"]+)"', error["stack"]))
    assert {Path(file).name for file in files} == {"misbehaving.py"}


async def test_a_wrong_call_is_the_functions_own_type_error(bench: Bench) -> None:
    error = json.loads((await bench.run("raises")).result)
    assert error["name"] == "TypeError"
    assert "missing 1 required positional argument: 'order'" in error["message"]


async def test_a_flood_is_cut_and_says_so(bench: Bench) -> None:
    execution = bench.start("floods", 20)
    await bench.sink.outcome(execution)
    kept = sum(len(text) + 1 for text in bench.sink.texts(execution, "stdout"))
    assert kept <= 1024 * 1024
    assert bench.sink.texts(execution, "system") == [
        f"{20 * 1024 * 1024 - kept} bytes of output were cut: 1 MiB or 20000 lines are kept"
    ]


async def test_what_is_not_utf8_is_replaced_and_an_unfinished_line_is_kept(bench: Bench) -> None:
    execution = bench.start("prints_rubbish")
    await bench.sink.outcome(execution)
    assert bench.sink.texts(execution, "stdout") == ["caf�", "nul � byte"]
    assert bench.sink.texts(execution, "stderr") == ["no end"]


async def test_output_before_a_sudden_exit_is_kept(bench: Bench) -> None:
    execution = bench.start("exits_at_once")
    await bench.sink.outcome(execution)
    assert bench.sink.texts(execution, "stdout") == ["almost"]


async def test_the_figure_is_in_the_record_of_a_memory_eater(bench: Bench) -> None:
    outcome = await bench.run("eats_memory")
    used = re.search(r"used (\d+) MiB", json.loads(outcome.result)["message"])
    assert used is not None and int(used[1]) > 512
    assert outcome.memory_peak is not None and outcome.memory_peak > 512 * 1024 * 1024


def test_the_readme_names_every_case() -> None:
    named = set(re.findall(r"^\| `(\w+)`", README.read_text(), re.MULTILINE))
    assert named == set(CASES) | {"raises"}
