"""Executions and imports that lie to the server: only they suffer from it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deferlite.model.execution import Ending
from deferlite.sandbox.levels import Level, SandboxStatus
from tests.contract.benches import Bench, MakeBench, Plans

pytestmark = pytest.mark.anyio

HOSTILE = r'''
import os, time

def descriptors():
    """The runner's socket first: it was there before any other."""
    return sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2)

def says(text):
    for descriptor in descriptors():
        try:
            os.write(descriptor, text.encode("latin-1"))
        except OSError:
            pass
    time.sleep(0.2)

def raises(message):
    raise ValueError(message)

def fine():
    return "fine"

def lists(folder):
    return os.listdir(folder)

def prints_a_million_lines():
    os.write(1, b"\n" * 1_000_000)

def leaves_a_secret():
    open(os.environ["HOME"] + "/secret", "w").close()
    print("left", flush=True)
    time.sleep(60)

def finds():
    return [name for _, _, names in os.walk(os.path.dirname(os.environ["HOME"])) for name in names]
'''
IMPORTING = HOSTILE + '\nsays(open(os.path.join(os.path.dirname(__file__), "words"), encoding="latin-1").read())\n'
LOG = '{"type":"log","level":"INFO","time":%s,"size":1}\nx'

FORGED = {
    "a moment that no store takes": LOG % ("1" + "0" * 30),
    "a moment before all": LOG % "-9223372036854775809",
    "a moment without end": LOG % "Infinity",
    "a moment that is text": LOG % '"abc"',
    "a level that is not UTF-8": '{"type":"log","level":"\\ud800","time":1,"size":1}\nx',
    "a level without end": '{"type":"log","level":"' + "L" * 200_000 + '","time":1,"size":1}\nx',
    "a size that is a fraction": '{"type":"log","level":"","time":1,"size":1.5}\nx',
    "a result that is not JSON": '{"type":"result","ok":true,"size":3}\n{{{',
    "a result that is not UTF-8": '{"type":"result","ok":true,"size":3}\n"\xff"',
    "no result at all": '{"type":"result","ok":true}\n',
    "an error that is none": '{"type":"result","ok":false,"size":2}\n17',
}


@pytest.fixture
async def hostile(make_bench: MakeBench, tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    plans = Plans()
    plans.add("hostile", tmp_path, "hostile")
    async with make_bench(plans) as bench:
        yield bench


@pytest.mark.parametrize("words", FORGED)
async def test_a_forged_frame_of_an_execution_is_its_own_failure(hostile: Bench, words: str) -> None:
    neighbour = hostile.start("says", "", build="hostile")
    execution = hostile.start("says", FORGED[words], build="hostile")
    outcome = await hostile.sink.outcome(execution)
    json.loads(outcome.result)
    assert all(0 <= line.time < 1 << 62 and len(line.level) < 100 for line in hostile.sink.lines.get(execution, []))
    assert (await hostile.sink.outcome(neighbour)).ending is Ending.RETURNED
    assert json.loads((await hostile.run("fine", build="hostile")).result) == "fine"


async def test_an_error_with_a_lone_surrogate_is_plain_json(hostile: Bench) -> None:
    outcome = await hostile.run("raises", "a \ud800 b", build="hostile")
    assert json.loads(outcome.result)["message"] == "a \\ud800 b"


IMPORTED = {
    "a log of another's execution": '{"type":"log","id":"%s","attempt":1,"stream":"stdout","time":1,"size":1}\nx',
    "an end of another's execution": '{"type":"ended","id":"%s","attempt":1,"ending":"returned","size":1}\n1',
    "an end that is none": '{"type":"ended","id":"x","attempt":1,"ending":"nonsense"}\n',
    "a number that no store takes": '{"type":"ended","id":"x","attempt":1,"memory_peak":1000000000000000000000000}\n',
    "a payload without end": '{"type":"log","id":"x","attempt":1,"size":100000000000}\n',
    "a header without end": "x" * 100_000,
    "an error that is none": '{"type":"failed","size":2}\n17',
    "nonsense": "\x00\xff\n",
}


@pytest.mark.parametrize("words", IMPORTED)
async def test_a_module_that_speaks_as_the_runner_reaches_nobody_else(
    make_bench: MakeBench, tmp_path: Path, words: str
) -> None:
    for name, source in (("hostile", HOSTILE), ("importing", IMPORTING)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(source)
    plans = Plans()
    plans.add("hostile", tmp_path / "hostile", "hostile")
    plans.add("importing", tmp_path / "importing", "importing")
    async with make_bench(plans) as bench:
        victim = bench.start("says", "", build="hostile")
        said = IMPORTED[words] % victim if "%s" in IMPORTED[words] else IMPORTED[words]
        (tmp_path / "importing" / "words").write_text(said, encoding="latin-1")
        outcome = await bench.run("fine", build="importing")
        json.loads(outcome.result)
        assert (await bench.sink.outcome(victim)).ending is Ending.RETURNED
        assert json.loads((await bench.sink.outcome(victim)).result) is None
        assert bench.sink.lines.get(victim) is None
        assert set(bench.sink.lines) <= {victim}


async def test_a_million_empty_lines_are_cut_by_their_number(hostile: Bench) -> None:
    execution = hostile.start("prints_a_million_lines", build="hostile")
    assert (await hostile.sink.outcome(execution)).ending is Ending.RETURNED
    *lines, last = hostile.sink.lines[execution]
    assert len(lines) == 20_000
    assert (last.stream, last.text) == ("system", "980000 bytes of output were cut: 1 MiB or 20000 lines are kept")


async def test_what_goes_wrong_before_the_function_is_the_runners_fault(hostile: Bench, tmp_path: Path) -> None:
    assert (await hostile.run("fine", build="hostile")).ending is Ending.RETURNED
    # As a cleaner of temporary files might.
    for folder in sorted((tmp_path / "scratch").rglob("*"), reverse=True):
        folder.rmdir()
    outcome = await hostile.run("fine", build="hostile")
    assert outcome.ending is Ending.INTERNAL
    assert json.loads(outcome.result)["name"] == "FileNotFoundError"


async def test_what_an_execution_left_when_its_runner_was_killed_is_not_for_the_next(hostile: Bench) -> None:
    execution = hostile.start("leaves_a_secret", build="hostile")
    await hostile.sink.first_line(execution)
    os.kill(hostile.executor.pids()["hostile"], signal.SIGKILL)
    assert (await hostile.sink.outcome(execution)).ending is Ending.INTERNAL
    assert json.loads((await hostile.run("finds", build="hostile")).result) == []


async def test_the_servers_home_is_hidden_inside_a_folder_that_the_box_shows(
    make_bench: MakeBench, tmp_path: Path, status: SandboxStatus
) -> None:
    project = tmp_path / "opt" / "home" / "builds" / "shop"
    project.mkdir(parents=True)
    (project / "hostile.py").write_text(HOSTILE)
    (tmp_path / "opt" / "home" / "admin.token").write_text("secret")
    plans = Plans()
    plans.add("hostile", project, "hostile", read_only=(tmp_path / "opt",), hidden=(tmp_path / "opt" / "home",))
    async with make_bench(plans) as bench:
        seen = json.loads((await bench.run("lists", str(tmp_path / "opt" / "home"), build="hostile")).result)
        walls = status.level is Level.BUBBLEWRAP
        assert sorted(seen) == (["builds"] if walls else ["admin.token", "builds"])
