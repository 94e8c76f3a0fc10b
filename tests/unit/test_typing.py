"""mypy --strict knows what a background function takes and what waiting for it returns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

# A line that ends in "# R: type" is to reveal that type, one in "# E: code" to be an error of that code.
SNIPPET = """\
from __future__ import annotations

from typing import Any

from deferlite import RetryPolicy, assign_options, await_result, defer, get_execution, list_executions


@defer
def plain(company: str, contacts: list[dict[str, Any]], *, dry: bool = False) -> int:
    return len(contacts)


@defer(retry=5, concurrency=2, max_duration="10m", aliases=["with_fewer_options"])
def with_options(number: int) -> str:
    return str(number)


@defer.cron("0 8 * * *", timezone="Europe/Paris", aliases=("report",))
async def digest(day: str | None = None) -> None: ...


@defer(retry=RetryPolicy(max_attempts=3))
async def fetch(address: str) -> bytes:
    return address.encode()


def undecorated(number: int) -> float:
    return number / 2


async def aundecorated(number: int) -> float:
    return number / 2


half = defer(undecorated, retry={"max_attempts": 2})
ahalf = defer(aundecorated, retry=True)

reveal_type(plain("acme", []))  # R: deferlite.sdk.executions.Execution
reveal_type(plain.run("acme", []))  # R: int
reveal_type(await_result(plain)("acme", [], dry=True))  # R: int
reveal_type(await_result(plain.options(delay="1h"))("acme", []))  # R: int
reveal_type(await_result(assign_options(with_options, priority=3))(1))  # R: str
reveal_type(with_options.enqueue_many([(1,), {"number": 2}]))  # R: list[deferlite.sdk.executions.Execution]
reveal_type(half(1))  # R: deferlite.sdk.executions.Execution
reveal_type(await_result(half)(1))  # R: float
reveal_type(half.__fn__(3))  # R: float
reveal_type(get_execution("id").state)  # R: Literal
reveal_type([execution.id for execution in list_executions(states=["failed"])])  # R: list[str]


async def coroutines() -> None:
    reveal_type(await digest())  # R: deferlite.sdk.executions.Execution
    reveal_type(await fetch("a"))  # R: deferlite.sdk.executions.Execution
    reveal_type(await fetch.run("a"))  # R: bytes
    reveal_type(await await_result(fetch)("a"))  # R: bytes
    reveal_type(await await_result(fetch.options(priority=1), timeout="5m")("a"))  # R: bytes
    reveal_type(await await_result(ahalf)(1))  # R: float
    reveal_type(await fetch.enqueue_many([("a",)]))  # R: list[deferlite.sdk.executions.Execution]
    fetch("a")  # E: unused-coroutine
    await fetch(1)  # E: arg-type


plain("acme")  # E: call-arg
plain("acme", 7)  # E: arg-type
plain("acme", [], wet=True)  # E: call-arg
plain.run(1, [])  # E: arg-type
plain.options(delay="1h")("acme")  # E: call-arg
await_result(plain)(1, [])  # E: arg-type
assign_options(half, delay=1)("one")  # E: arg-type
await_result(undecorated)  # E: call-overload
with_options.options(delai="1h")  # E: call-arg
defer(undecorated, retries=3)  # E: call-overload
defer(max_concurrency_action="drop")  # E: call-overload
"""


def test_mypy_knows_parameters_and_results(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--python-version", "3.10"]
    command += ["--config-file=", "--cache-dir", str(tmp_path / "cache"), str(snippet)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    said = re.findall(r"snippet\.py:(\d+): (error|note): (.*)", done.stdout)
    assert said, done.stdout + done.stderr
    faults = list(compare(said))
    assert not faults, "\n".join(faults)


def compare(said: list[tuple[str, str, str]]) -> list[str]:
    faults = []
    for number, line in enumerate(SNIPPET.splitlines(), 1):
        texts = [text for at, _, text in said if int(at) == number]
        kinds = {kind for at, kind, _ in said if int(at) == number}
        _, revealed, wanted = line.partition("# R: ")
        _, fails, code = line.partition("# E: ")
        if revealed and not any("Revealed type" in text and wanted in text.replace("builtins.", "") for text in texts):
            faults.append(f"line {number} should reveal {wanted}: {texts}")
        if fails and not any(f"[{code}]" in text for text in texts):
            faults.append(f"line {number} should be an error [{code}]: {texts}")
        if "error" in kinds and not fails:
            faults.append(f"line {number}: {texts}")
    return faults
