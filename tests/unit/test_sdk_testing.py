"""deferlite.testing, as an application's test suite uses it."""

from __future__ import annotations

import pytest

import deferlite.testing
from deferlite import ExecutionFailed, await_result, current_execution, defer, get_execution, list_executions

pytestmark = pytest.mark.anyio

sent: list[str] = []


@pytest.fixture(autouse=True)
def nothing_sent() -> None:
    sent.clear()


@defer
def send(address: str, subject: str = "hello") -> str:
    sent.append(address)
    return f"{subject}, {address}"


@defer(retry=3)
def broken() -> None:
    raise KeyError("no such thing")


@defer
def campaign(addresses: list[str]) -> None:
    for address in addresses:
        send(address)


@defer
async def report(name: str) -> str:
    current = current_execution()
    assert current is not None
    return f"{current.function_name} on {await await_result(shout)(name)}"


@defer
async def shout(name: str) -> str:
    return name.upper()


def test_inline_runs_at_once() -> None:
    with deferlite.testing.inline():
        execution = send.options(delay="1h")("ada@example.org")
        assert sent == ["ada@example.org"]
        assert execution.state == "succeed"
        assert await_result(send)("ada@example.org") == "hello, ada@example.org"
        campaign(["a", "b"])
        assert sent[-2:] == ["a", "b"]
        assert get_execution(execution.id).state == "succeed"


def test_inline_raises_what_the_function_raises() -> None:
    with deferlite.testing.inline():
        with pytest.raises(KeyError, match="no such thing") as raw:
            broken()
        assert not isinstance(raw.value, ExecutionFailed)
        with pytest.raises(ExecutionFailed) as failed:
            await_result(broken)()
        assert isinstance(failed.value, KeyError)
        assert [execution.state for execution in list_executions()] == ["failed", "failed"]


async def test_inline_runs_coroutines_in_the_running_loop() -> None:
    with deferlite.testing.inline():
        assert (await report("ada")).state == "succeed"
        assert await await_result(report)("ada") == "report on ADA"


def test_capture_keeps_and_runs_later() -> None:
    with deferlite.testing.capture() as queue:
        campaign(["a", "b"])
        assert sent == []
        assert [execution.function_name for execution in queue.run_all()] == ["campaign", "send", "send"]
        assert sent == ["a", "b"]
        assert len(queue) == 3
    assert queue.run_all() == []


async def test_capture_runs_coroutines_too() -> None:
    with deferlite.testing.capture() as queue:
        await report("ada")
        [done] = [execution for execution in await queue.arun_all() if execution.function_name == "report"]
        assert done.state == "succeed"


def test_capture_gives_a_result_to_who_waits_for_one() -> None:
    with deferlite.testing.capture():
        assert await_result(send)("a") == "hello, a"


def test_capture_lets_failures_out() -> None:
    with deferlite.testing.capture() as queue:
        broken()
        with pytest.raises(KeyError):
            queue.run_all()


def test_what_was_enqueued_can_be_looked_at() -> None:
    with deferlite.testing.capture() as queue:
        send.options(metadata={"user": "7"}, delay="1h")("a", subject="hi")
    [call] = queue.executions
    assert (call.function_name, call.arguments, call.keyword_arguments) == ("send", ("a",), {"subject": "hi"})
    assert call.metadata == {"user": "7"}


def test_blocks_nest_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFER_TOKEN", "no server is asked")
    with deferlite.testing.capture() as outer:
        with deferlite.testing.inline():
            send("a")
        send("b")
    assert [call.arguments for call in outer.executions] == [("b",)]
    assert sent == ["a"]
