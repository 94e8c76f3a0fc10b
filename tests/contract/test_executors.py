"""What every executor promises: results, surroundings, logs, aborts, and its own death."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import anyio
import pytest

from deferlite.executors.local import LOOK_EVERY
from deferlite.executors.outcomes import seconds
from deferlite.model.execution import Ending
from deferlite.sandbox.levels import Level, SandboxStatus
from tests.contract.benches import REPOSITORY, Bench, MakeBench, Plans
from tests.support import interpreters

pytestmark = pytest.mark.anyio

JOBS = """
import asyncio, logging, os, pathlib, sys, threading, time

LOADED = os.getpid()
logger = logging.getLogger("shop")

def add(a, b=0, *, c=0): return a + b + c
def surroundings():
    home = pathlib.Path(os.environ["HOME"])
    home.joinpath("file").write_text("x")
    return {"cwd": os.getcwd(), "home": str(home), "tmp": os.environ["TMPDIR"], "env": dict(os.environ),
            "argv": sys.argv,
            "path": sys.path[0], "main": vars(sys.modules["__main__"]).get("__file__"), "stdin": sys.stdin.read(),
            "runner": [m for m in sys.modules if m.startswith("deferlite")]}
def pids(): return [LOADED, os.getpid()]
async def later(value):
    await asyncio.sleep(0)
    if value == "bad": raise ValueError("bad value")
    return value
def logs():
    logger.info("for %s", "you")
    logger.error("two\\nlines")
    print("out"); print("err", file=sys.stderr)
def endless():
    print("running", flush=True)
    while True: pass
def sleepy():
    print("running", flush=True)
    time.sleep(1e6)
def tuples(): return (1, [True, None], {"a": "é"})
def writes(path): pathlib.Path(path).write_text("x")
def count_threads(): return threading.active_count()
class Wrapped:
    def __init__(self, fn): self.__fn__ = fn
    def __call__(self, *a): raise AssertionError("this would enqueue")
wrapped = Wrapped(lambda x: x * 2)
"""


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    project = tmp_path / "project"
    project.mkdir()
    (project / "jobs.py").write_text(JOBS)
    plans = Plans()
    plans.add("jobs", project, "jobs")
    return plans


@pytest.fixture
async def jobs(make_bench: MakeBench, plans: Plans):  # type: ignore[no-untyped-def]
    async with make_bench(plans) as bench:
        yield bench


async def value(bench: Bench, attribute: str, *arguments: object, **changes: object) -> object:
    outcome = await bench.run(attribute, *arguments, build=changes.pop("build", "jobs"), **changes)
    assert outcome.ending == Ending.RETURNED, outcome.result
    return json.loads(outcome.result)


async def test_arguments_and_keyword_arguments_arrive(jobs: Bench) -> None:
    assert await value(jobs, "add", 1, 2, keyword_arguments='{"c": 39}') == 42


async def test_a_background_function_runs_what_it_wraps(jobs: Bench) -> None:
    assert await value(jobs, "wrapped", 21) == 42


async def test_async_functions_run_and_fail_like_others(jobs: Bench) -> None:
    assert await value(jobs, "later", "good") == "good"
    outcome = await jobs.run("later", "bad", build="jobs")
    error = json.loads(outcome.result)
    assert error["message"] == "bad value"
    assert "runners.py" not in error["stack"]


async def test_what_json_can_say_is_a_result(jobs: Bench) -> None:
    assert await value(jobs, "tuples") == [1, [True, None], {"a": "é"}]


async def test_the_surroundings_are_a_programs_own(jobs: Bench, plans: Plans) -> None:
    found = await value(jobs, "surroundings", env={"DEFER_EXECUTION_ID": "x", "TZ": "UTC"})
    assert isinstance(found, dict)
    plan = await plans.locate("jobs")
    assert found["cwd"] == found["path"] == str(plan.project)
    assert found["home"] == found["tmp"]
    assert found["main"] is None and found["stdin"] == "" and found["argv"] == ["deferlite"]
    assert found["runner"] == []
    expected = {"DEFER_EXECUTION_ID", "TZ", "LANG", "PATH", "HOME", "TMPDIR", "DEFERLITE_TEST_MARK"}
    assert set(found["env"]) - {"LC_CTYPE"} == expected
    assert not Path(found["home"], "file").exists()


async def test_every_execution_has_a_process_of_its_own_and_imports_nothing_again(jobs: Bench) -> None:
    first, second = await value(jobs, "pids"), await value(jobs, "pids")
    assert isinstance(first, list) and isinstance(second, list)
    assert first[0] == second[0] and len({*first, *second}) == 3


async def test_output_and_logging_become_lines_with_time_and_level(jobs: Bench) -> None:
    before = time.time_ns() // 1000
    execution = jobs.start("logs", build="jobs")
    await jobs.sink.outcome(execution)
    lines = jobs.sink.lines[execution]
    assert [(x.level, x.text) for x in lines if x.stream == "logging"] == [
        ("INFO", "for you"),
        ("ERROR", "two"),
        ("ERROR", "lines"),
    ]
    assert jobs.sink.texts(execution, "stdout") == ["out"]
    assert jobs.sink.texts(execution, "stderr") == ["err"]
    assert all(before <= line.time <= time.time_ns() // 1000 for line in lines)


async def test_twenty_at_once(jobs: Bench) -> None:
    executions = [jobs.start("add", number, build="jobs") for number in range(20)]
    results = [json.loads((await jobs.sink.outcome(execution)).result) for execution in executions]
    assert results == list(range(20))


@pytest.mark.parametrize("function", ["endless", "sleepy"])
async def test_an_abort_takes_less_than_a_second(jobs: Bench, function: str) -> None:
    execution = jobs.start(function, build="jobs")
    await jobs.sink.first_line(execution)
    asked = time.monotonic()
    jobs.executor.abort(execution, 1)
    assert (await jobs.sink.outcome(execution)).ending == Ending.ABORTED
    assert time.monotonic() - asked < 1


async def test_an_abort_before_the_runner_is_up_ends_the_order(jobs: Bench) -> None:
    execution = jobs.start("sleepy", build="jobs")
    jobs.executor.abort(execution, 1)
    assert (await jobs.sink.outcome(execution)).ending == Ending.ABORTED
    jobs.executor.abort(execution, 1)
    assert await value(jobs, "add", 1) == 1


async def test_the_death_of_the_runner_is_internal_and_the_next_order_finds_a_new_one(jobs: Bench) -> None:
    running = [jobs.start("sleepy", build="jobs") for _ in range(2)]
    for execution in running:
        await jobs.sink.first_line(execution)
    os.kill(jobs.executor.pids()["jobs"], signal.SIGKILL)
    for execution in running:
        outcome = await jobs.sink.outcome(execution)
        assert outcome.ending == Ending.INTERNAL
        assert "the runner ended unexpectedly: signal 9 (SIGKILL)" in outcome.result
    assert await value(jobs, "add", 1) == 1


async def test_a_build_that_cannot_be_found_is_internal(jobs: Bench) -> None:
    outcome = await jobs.run("add", build="nowhere")
    assert outcome.ending == Ending.INTERNAL
    assert "no build nowhere" in outcome.result


async def test_an_import_that_fails_is_told_to_every_order(make_bench: MakeBench, plans: Plans, tmp_path: Path) -> None:
    (tmp_path / "project" / "broken.py").write_text("def f(): ...\nimport nowhere_to_be_found\n")
    (tmp_path / "project" / "leaves.py").write_text("import os; os._exit(4)\n")
    plans.add("broken", tmp_path / "project", "broken")
    plans.add("leaves", tmp_path / "project", "leaves")
    async with make_bench(plans) as bench:
        for execution in [bench.start("f", build="broken") for _ in range(3)]:
            outcome = await bench.sink.outcome(execution)
            error = json.loads(outcome.result)
            assert outcome.ending == Ending.RAISED
            assert error["name"] == "ModuleNotFoundError" and "broken.py" in error["stack"]
            assert "deferlite/runner" not in error["stack"]
        outcome = await bench.run("f", build="leaves")
        assert outcome.ending == Ending.RAISED
        assert "importing the modules ended the process" in outcome.result


THREADED = """
import socket, threading, time, os
HELD = socket.socketpair()
threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
LOADED = os.getpid()
def pid(): return [os.getpid() == LOADED, threading.active_count()]
def hang():
    print("running", flush=True)
    time.sleep(1e6)
"""


async def test_an_import_that_leaves_threads_gets_processes_that_import_for_themselves(
    make_bench: MakeBench, plans: Plans, tmp_path: Path
) -> None:
    (tmp_path / "project" / "threaded.py").write_text(THREADED)
    plans.add("threaded", tmp_path / "project", "threaded")
    async with make_bench(plans) as bench:
        executions = [bench.start("pid", build="threaded") for _ in range(4)]
        for execution in executions:
            assert json.loads((await bench.sink.outcome(execution)).result) == [True, 2]
        execution = bench.start("hang", build="threaded")
        await bench.sink.first_line(execution)
        bench.executor.abort(execution, 1)
        assert (await bench.sink.outcome(execution)).ending == Ending.ABORTED


async def test_a_stop_interrupts_what_does_not_end_in_time(jobs: Bench, plans: Plans) -> None:
    running = jobs.start("sleepy", build="jobs")
    await jobs.sink.first_line(running)
    await jobs.executor.stop(0.05)
    assert jobs.sink.outcomes[running].ending == Ending.INTERRUPTED
    assert plans.processes() == []


async def test_a_stop_waits_for_what_ends_in_time(jobs: Bench) -> None:
    executions = [jobs.start("add", number, build="jobs") for number in range(5)]
    await jobs.executor.stop(30)
    assert {jobs.sink.outcomes[execution].ending for execution in executions} == {Ending.RETURNED}


async def test_a_released_runner_stays_until_its_last_execution_ended(jobs: Bench, plans: Plans) -> None:
    execution = jobs.start("sleepy", build="jobs")
    await jobs.sink.first_line(execution)
    await jobs.executor.release("jobs")
    assert "jobs" in jobs.executor.pids()
    jobs.executor.abort(execution, 1)
    await jobs.sink.outcome(execution)
    await jobs.plans.until_none()
    assert await value(jobs, "add", 2) == 2


async def test_a_warm_runner_is_there_before_the_first_order(jobs: Bench, plans: Plans) -> None:
    await jobs.executor.warm("test", "jobs")
    await jobs.executor.warm("test", "jobs")
    assert await value(jobs, "add", 3) == 3
    assert len(jobs.executor.pids()) == 1


async def test_writing_into_the_project_works_only_without_walls(jobs: Bench, tmp_path: Path) -> None:
    outcome = await jobs.run("writes", str(tmp_path / "project" / "new"), build="jobs")
    walls = jobs.executor.sandbox == "bubblewrap"
    assert outcome.ending == (Ending.RAISED if walls else Ending.RETURNED)
    if walls:
        assert "Read-only file system" in outcome.result


SERVER = """
import anyio, os, sys
from pathlib import Path
from deferlite.executors.local import LocalExecutor
from deferlite.model.clock import SystemClock
from deferlite.sandbox.levels import probe
from tests.contract.benches import Bench, Plans, Recorder

async def main(level, project, mark):
    plans, sink = Plans(), Recorder()
    plans.mark = mark
    plans.add("jobs", project, "jobs")
    async with LocalExecutor(sink, await probe(level), plans, project / "scratch", SystemClock()) as executor:
        await sink.first_line(Bench(executor, sink, plans).start("sleepy", build="jobs"))
        print("runs", flush=True)
        await anyio.sleep_forever()

anyio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""


async def test_no_process_outlives_a_killed_server(status: SandboxStatus, plans: Plans) -> None:
    level = "off" if status.level is Level.PROCESS else "required"
    project = (await plans.locate("jobs")).project
    argv = [sys.executable, "-c", SERVER, level, str(project), plans.mark]
    async with await anyio.open_process(argv, cwd=REPOSITORY) as server:
        assert server.stdout is not None
        assert (await server.stdout.receive()).startswith(b"runs")
        assert len(plans.processes()) >= 2
        server.kill()
    await plans.until_none()


async def test_the_runner_speaks_every_python_from_3_10(make_bench: MakeBench, plans: Plans) -> None:
    found = [Path(path) for path in (await anyio.to_thread.run_sync(interpreters)).values()]
    project = (await plans.locate("jobs")).project
    for number, interpreter in enumerate(found):
        plans.add(f"other{number}", project, "jobs", interpreter=interpreter)
    async with make_bench(plans) as bench:
        for number in range(len(found)):
            assert await value(bench, "later", "x", build=f"other{number}", module="jobs") == "x"
            outcome = await bench.run("later", "bad", build=f"other{number}", module="jobs")
            assert "runners.py" not in json.loads(outcome.result)["stack"]
            execution = bench.start("logs", build=f"other{number}", module="jobs")
            await bench.sink.outcome(execution)
            assert bench.sink.texts(execution, "stderr") == ["err"]


@pytest.mark.parametrize(
    ("duration", "text"), [(0.5, "0.5 s"), (1800, "30 m"), (5400, "1 h 30 m"), (61.5, "1 m 1.5 s")]
)
def test_durations_are_told_as_people_do(duration: float, text: str) -> None:
    assert seconds(duration) == text


async def test_edited_settings_take_effect_while_an_execution_goes_on_as_it_began(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "import os, time\ndef where():\n    return os.getcwd()\n"
        "def waits():\n    print(1, flush=True)\n    while not os.path.exists('gate'): time.sleep(0.02)\n"
        "    return os.getcwd()\n"
    )
    plans = Plans()
    plans.add("shop", tmp_path, "shop")
    async with make_bench(plans) as bench:
        assert json.loads((await bench.run("where", build="shop")).result) == str(tmp_path)
        old = bench.start("waits", build="shop")
        await bench.sink.first_line(old)
        await anyio.sleep(LOOK_EVERY)
        plans.add("shop", tmp_path, "shop", workdir="scratch")
        assert "/scratch/" in json.loads((await bench.run("where", build="shop")).result)
        assert old not in bench.sink.outcomes
        (tmp_path / "gate").touch()
        assert json.loads((await bench.sink.outcome(old)).result) == str(tmp_path)
        assert list(bench.executor.pids()) == ["shop"]
