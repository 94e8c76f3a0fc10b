"""In-process executions at the end of a program, and in a forked child."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def program(text: str, *, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEFER_")}
    source = "import asyncio, os, time\nfrom deferlite import *\n" + textwrap.dedent(text)
    return subprocess.run([python, "-c", source], env=environment, capture_output=True, text=True, timeout=60)


def test_a_program_that_ends_finishes_what_is_due() -> None:
    done = program("""
        @defer(concurrency=1)
        def leaf(n):
            time.sleep(0.01)
            return n

        @defer
        def parent(n):
            print("sum", sum(await_result(leaf)(i) for i in range(n)), flush=True)

        @defer
        async def aparent(n):
            print("late", await await_result(grandparent)(n), flush=True)

        @defer
        async def grandparent(n):
            return n + await asyncio.to_thread(lambda: 0) if n > 100 else n

        parent.enqueue_many([(3,)] * 20)
        asyncio.run(aparent(7))
        leaf.options(delay="1h")(1)
    """)
    assert done.stdout.count("sum 3") == 20, done.stderr
    assert done.stdout.count("late 7") == 1
    assert "1 delayed background executions are dropped" in done.stderr
    assert done.returncode == 0


def test_a_forked_child_has_a_queue_of_its_own() -> None:
    done = program("""
        @defer
        def double(n):
            return 2 * n

        assert await_result(double)(1) == 2
        child = os.fork()
        if child == 0:
            assert len(list_executions()) == 0
            print("child", await_result(double)(4), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("parent", await_result(double)(3))
    """)
    assert done.stdout == "child 8\nparent 6\n", done.stderr
