"""What a build changes of its functions, and what former names stand for."""

from __future__ import annotations

from typing import Any

import pytest

from deferlite.model.changes import FunctionChange, compare
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest, Parameter
from deferlite.model.renames import heirs
from deferlite.sdk.retry import RetryPolicy


def spec(name: str, *parameters: str, attribute: str | None = None, **fields: Any) -> FunctionSpec:
    found = tuple(Parameter(name=each, kind="positional_or_keyword") for each in parameters)
    return FunctionSpec(
        name=name, module="jobs", attribute=attribute or name, is_async=False, parameters=found, **fields
    )


def changes(old: list[FunctionSpec], new: list[FunctionSpec], **became: str) -> list[tuple[str, ...]]:
    found = compare(
        *(Manifest(runtime="python", interpreter="", modules=(), functions=tuple(x)) for x in (old, new)), became
    )
    return [(each.kind, each.name, each.before, each.after) for each in found]


def test_the_same_functions_are_no_change() -> None:
    assert changes([spec("a", doc="old", line=1)], [spec("a", doc="new", line=7)]) == []


def test_added_removed_renamed_and_changed() -> None:
    old = [spec("stays", "x"), spec("gone"), spec("send", "to"), spec("place", attribute="p")]
    new = [spec("stays", "x", "y"), spec("mail", "to", "copy"), spec("spot", attribute="p"), spec("fresh")]
    assert changes(old, new, send="mail") == [
        ("removed", "gone", "", ""),
        ("renamed", "spot", "place", "spot"),
        ("renamed", "mail", "send", "mail"),
        ("added", "fresh", "", ""),
        ("signature", "mail", "(to)", "(to, copy)"),
        ("signature", "stays", "(x)", "(x, y)"),
    ]


def test_only_the_options_that_differ() -> None:
    before = spec("a", options=FunctionOptions(concurrency=1, cron="@daily"))
    after = spec("a", options=FunctionOptions(concurrency=2, cron="@daily", retry=RetryPolicy(max_attempts=3)))
    assert changes([before], [after]) == [
        ("options", "a", "retry.max_attempts=0, concurrency=1", "retry.max_attempts=3, concurrency=2")
    ]


def test_a_function_that_goes_into_one_that_was_there_is_renamed() -> None:
    assert changes([spec("a"), spec("b")], [spec("b", aliases=("a",))], a="b") == [("renamed", "b", "a", "b")]


def test_a_change_is_small_on_the_wire() -> None:
    change = FunctionChange(kind="added", name="a")
    assert (change.before, change.after) == ("", "")


@pytest.mark.parametrize(
    ("active", "inactive", "expected"),
    [
        ({"b": ["a"]}, {}, {"a": "b"}),
        ({"b": ["a"]}, {"a": []}, {"a": "b"}),
        ({"a": []}, {"b": ["a"]}, {"b": "a"}),
        ({"c": ["a", "b"]}, {"a": [], "b": ["a"]}, {"a": "c", "b": "c"}),
        ({"c": ["b"]}, {"a": [], "b": ["a"]}, {"a": "c", "b": "c"}),
        ({"c": ["b"]}, {"a": []}, {"b": "c"}),
        ({"a": []}, {"b": ["a"], "c": ["b"]}, {"b": "a", "c": "a"}),
        ({"c": []}, {"a": [], "b": ["a"]}, {}),
        ({"a": [], "b": ["a"]}, {}, {}),
        ({"x": ["a"], "y": ["a"]}, {"a": []}, {"a": "x"}),
        ({"b": ["b", "a"]}, {}, {"a": "b"}),
        ({"c": ["a"]}, {"a": ["b"], "b": ["a"]}, {"a": "c", "b": "c"}),
    ],
)
def test_what_former_names_stand_for(
    active: dict[str, list[str]], inactive: dict[str, list[str]], expected: dict[str, str]
) -> None:
    assert heirs(active, inactive) == expected
