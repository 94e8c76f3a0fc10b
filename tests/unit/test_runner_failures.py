"""Error objects: the stack is the user's, also where the SDK raised what a child failed with."""

from __future__ import annotations

import json

from deferlite.runner.failures import describe
from deferlite.sdk import retry


def described(error: BaseException) -> dict[str, str]:
    try:
        raise error
    except BaseException as raised:
        return dict(json.loads(describe(raised)))


def test_frames_of_the_sdk_are_left_out_of_causes_too() -> None:
    def fails() -> None:
        try:
            retry.parse_retry("often")  # type: ignore[arg-type]
        except TypeError as cause:
            raise LookupError("no order") from cause

    try:
        fails()
    except LookupError as error:
        found = json.loads(describe(error))
    assert (found["name"], found["message"]) == ("LookupError", "no order")
    assert "TypeError: retry is a bool" in found["stack"] and "in fails" in found["stack"]
    assert "parse_retry(value" not in found["stack"] and "deferlite/sdk" not in found["stack"]


def test_an_error_that_cannot_be_told_is_named_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert described(Broken())["name"] == "Broken"
    assert described(ValueError("x" * 100_000))["message"].endswith("…")
