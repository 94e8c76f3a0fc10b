"""The wrapper itself: what a call checks, and what stays of the function."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from deferlite import assign_options, await_result, defer, get_execution
from deferlite.testing import CapturedQueue, capture

pytestmark = pytest.mark.anyio


@defer
def import_contacts(company: str, contacts: list[Any], *, dry: bool = False) -> int:
    """Imports."""
    return len(contacts)


@defer(retry=2)
async def greet(name: str) -> str:
    return f"hello {name}"


@pytest.fixture
def queue() -> Iterator[CapturedQueue]:
    with capture() as found:
        yield found


def test_the_wrapper_looks_like_the_function() -> None:
    assert import_contacts.__name__ == "import_contacts"
    assert import_contacts.__doc__ == "Imports."
    assert inspect.signature(import_contacts) == inspect.signature(import_contacts.__fn__)
    assert repr(import_contacts) == "<background function import_contacts>"


def test_it_is_pickled_and_copied_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert copy.deepcopy(import_contacts) is import_contacts
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(**globals()))
    assert pickle.loads(pickle.dumps(import_contacts)) is import_contacts


def test_only_the_wrapper_itself_is_found_by_a_builder() -> None:
    later = import_contacts.options(delay="1h")
    assert hasattr(import_contacts, "__fn__")
    assert not hasattr(later, "__fn__")


async def test_run_is_a_plain_call() -> None:
    assert import_contacts.run("acme", [1, 2]) == 2
    assert await greet.run("Ada") == "hello Ada"


def test_a_call_enqueues(queue: CapturedQueue) -> None:
    execution = import_contacts("acme", [{"name": "Ada"}], dry=True)
    assert (execution.state, execution.function_name) == ("created", "import_contacts")
    assert [(call.arguments, call.keyword_arguments) for call in queue.executions] == [
        (("acme", [{"name": "Ada"}]), {"dry": True})
    ]


async def test_awaiting_a_call_of_an_async_function_enqueues(queue: CapturedQueue) -> None:
    coroutine = greet("Ada")
    assert len(queue) == 0
    execution = await coroutine
    assert [call.id for call in queue.executions] == [execution.id]


def test_options_go_along(queue: CapturedQueue) -> None:
    assign_options(import_contacts, delay="1h", metadata={"user": "7"}, discard_after="2h", concurrency_key="acme")(
        "acme", []
    )
    [call] = queue.executions
    assert call.discard_at is not None
    assert (call.discard_at - call.scheduled_at).total_seconds() == pytest.approx(3600, abs=1)
    assert call.metadata == {"user": "7"}
    assert call.concurrency_key == "acme"


async def test_many_at_once(queue: CapturedQueue) -> None:
    executions = import_contacts.enqueue_many([("acme", []), ["umbrella", [1]], {"company": "wayne", "contacts": []}])
    assert [call.id for call in queue.executions] == [execution.id for execution in executions]
    assert queue.executions[2].keyword_arguments == {"company": "wayne", "contacts": []}
    assert len(await greet.enqueue_many([("Ada",), ("Grace",)])) == 2
    assert import_contacts.enqueue_many([]) == []


def test_many_refuses_what_it_cannot_keep_together(queue: CapturedQueue) -> None:
    with pytest.raises(ValueError, match="10,000 calls at once, not 10,001"):
        import_contacts.enqueue_many([("acme", [])] * 10_001)
    with pytest.raises(ValueError, match="idempotency_key names one"):
        import_contacts.options(idempotency_key="k").enqueue_many([("acme", [])])
    with pytest.raises(TypeError, match="a call is a tuple"):
        import_contacts.enqueue_many(["acme"])
    with pytest.raises(TypeError, match="argument 2"):
        import_contacts.enqueue_many([("acme", []), ("acme", {1})])
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        ((), {}, r"import_contacts\(\): missing a required argument: 'company'"),
        (("acme", [], 3), {}, r"import_contacts\(\): too many positional"),
        (("acme", []), {"wet": True}, r"import_contacts\(\): got an unexpected keyword argument 'wet'"),
    ],
)
def test_a_call_that_does_not_fit(arguments: Any, keywords: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        import_contacts(*arguments, **keywords)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"born": date(1815, 12, 10)}, r"argument 2 \(contacts\)\['born'\] is of type date.*isoformat"),
        ([[{1, 2}]], r"argument 2 \(contacts\)\[0\]\[0\] is of type set.*pass a list"),
        ([math.nan], r"\[0\] is nan"),
        ([-math.inf], r"\[0\] is -inf"),
        ({1: "x"}, r"has the key 1: keys of a JSON object are strings"),
        (b"bytes", "is of type bytes"),
        (object(), "is of type object.*a key to look the object up by"),
        ("half \ud83d", "surrogate"),
    ],
)
def test_arguments_that_are_not_json(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        import_contacts("acme", value)
    with pytest.raises(TypeError, match=r"argument dry"):
        import_contacts("acme", [], dry=value)


async def test_an_async_function_refuses_at_the_call_too() -> None:
    with pytest.raises(TypeError, match=r"greet\(\): argument 1 \(name\)"):
        greet(b"Ada")  # type: ignore[arg-type, unused-coroutine]


def test_what_refers_to_itself_is_not_json() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="refers to itself"):
        import_contacts("acme", endless)


def test_tuples_count_as_lists(queue: CapturedQueue) -> None:
    import_contacts("acme", (1, (2,)))  # type: ignore[arg-type]
    assert queue.executions[0].arguments == ("acme", [1, [2]])


def test_wrong_callers_are_told() -> None:
    with pytest.raises(TypeError, match=r"await_result takes a background function.*decorate it"):
        await_result(len)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="assign_options takes a background function"):
        assign_options(len, delay="1h")  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"by its id.*execution\.id"):
        get_execution(7)  # type: ignore[arg-type]
