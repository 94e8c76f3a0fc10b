"""Whether queued arguments fit: the same answer as calling the function gives, for every shape of both."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferlite.model.binding import shape, signature, why_not
from deferlite.model.function import Parameter

NAMES = ("a", "b", "c", "d", "e")


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            name=each.name,
            kind=each.kind.name.lower(),
            annotation=None if each.annotation is each.empty else each.annotation,
            default=None if each.default is each.empty else repr(each.default),
        )
        for each in inspect.signature(function).parameters.values()
    )


def function_of(parameters: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(f"def function({parameters}): return True", space)
    function: Callable[..., Any] = space["function"]
    return function


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """Any parameter list that Python accepts, of up to five plain parameters."""
    names = list(NAMES[: draw(st.integers(0, 5))])
    slots = draw(st.integers(0, len(names)))
    only_positional = draw(st.integers(0, slots))
    defaults_from = draw(st.integers(0, slots))
    parts = [name if position < defaults_from else f"{name}=None" for position, name in enumerate(names[:slots])]
    if only_positional:
        parts.insert(only_positional, "/")
    star = draw(st.booleans())
    if star or names[slots:]:
        parts.append("*args" if star else "*")
    parts += [name + draw(st.sampled_from(["", "=7"])) for name in names[slots:]]
    if draw(st.booleans()):
        parts.append("**kwargs")
    return ", ".join(parts)


@given(signatures(), st.integers(0, 6), st.sets(st.sampled_from([*NAMES, "x", "args", "kwargs"])))
def test_it_says_what_the_call_says(parameters: str, positional: int, keywords: set[str]) -> None:
    function = function_of(parameters)
    reason = why_not(parameters_of(function), positional, keywords)
    try:
        function(*range(positional), **dict.fromkeys(keywords))
    except TypeError as error:
        assert reason is not None, (parameters, positional, keywords, error)
    else:
        assert reason is None, (parameters, positional, keywords, reason)


@given(signatures())
def test_a_signature_is_written_as_python_writes_it(parameters: str) -> None:
    function = function_of(parameters)
    assert signature(parameters_of(function)) == str(inspect.signature(function))


@pytest.mark.parametrize(
    ("parameters", "positional", "keywords", "reason"),
    [
        ("a, amount", 1, (), 'missing argument "amount"'),
        ("a, *, amount", 1, (), 'missing argument "amount"'),
        ("a, b", 3, (), "takes 2 arguments and 3 are queued"),
        ("", 1, (), "takes no arguments and 1 is queued"),
        ("a", 1, ("user_id",), 'has no parameter "user_id"'),
        ("a", 1, ("a",), 'gets argument "a" twice, by position and by name'),
        ("a, /", 0, ("a",), 'has no parameter "a" that is given by name'),
        ("a, /, **more", 0, ("a",), 'missing argument "a"'),
        ("a=1, /, **more", 0, ("a",), None),
        ("*all, **more", 9, ("a", "b"), None),
    ],
)
def test_it_says_what_is_wrong(parameters: str, positional: int, keywords: tuple[str, ...], reason: str | None) -> None:
    assert why_not(parameters_of(function_of(parameters)), positional, keywords) == reason


def test_annotations_and_values_of_defaults_do_not_decide() -> None:
    def one(a: int, b: str = "x") -> None: ...
    def two(a, b=None): ...  # type: ignore[no-untyped-def]
    def three(a, b): ...  # type: ignore[no-untyped-def]

    assert shape(parameters_of(one)) == shape(parameters_of(two)) != shape(parameters_of(three))
