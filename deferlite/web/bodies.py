"""Reading request bodies: within the limit, decoded into a struct, and refused with the field and the cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar, cast

import msgspec
from starlette.types import Receive, Scope

from deferlite.model.execution import ErrorCode, State
from deferlite.web.errors import ApiError, bad_request

T = TypeVar("T")

MAX_BODY = 1024 * 1024
"""Bytes; a longer body is 413, whatever its call."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ApiError: 413, it is or says it is longer than ``MAX_BODY``; 400, the client went away.
    """
    _check_length(scope)
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise bad_request("the connection was closed before the whole body was there")
        chunk = cast(bytes, message.get("body", b""))
        size += len(chunk)
        if size > MAX_BODY:
            raise _too_large()
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if len(chunks) > 1 else chunk


def _check_length(scope: Scope) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > MAX_BODY:
            raise _too_large()


def _too_large() -> ApiError:
    message = "a body is 1 MiB at most: hand over a reference to large data, or make the batch smaller"
    return ApiError(413, "payload_too_large", message)


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A function that decodes a body as ``kind`` and raises ApiError 400 naming the field and the cure.

    An empty body counts as ``{}``.
    """
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> T:
        try:
            # The text is checked here since raw parts are not looked into.
            return decode(body.decode() or "{}")
        except msgspec.ValidationError as error:
            raise bad_request(_explain(str(error))) from None
        except msgspec.DecodeError as error:
            raise bad_request(f"the body is not JSON: {error}") from None
        except UnicodeDecodeError:
            raise bad_request("the body is not UTF-8 text") from None
        except RecursionError:
            raise bad_request("the body is nested too deeply") from None

    return read


_AT = re.compile(r"(.*) - at `(?:key in )?\$\.?(.*)`\Z", re.DOTALL)
_MOMENT_CURE = 'write a moment with its zone, such as "2026-11-23T08:00:00Z"'
_CURES = {
    "schedule_for": _MOMENT_CURE,
    "discard_after": _MOMENT_CURE,
    "from": _MOMENT_CURE,
    "to": _MOMENT_CURE,
    "states": "one of " + ", ".join(State),
    "error_codes": "one of " + ", ".join(ErrorCode),
    "metadata": "an object of strings",
    "priority": "a whole number from -100 to 100",
    "force": "true or false",
    "first": "a whole number from 1 to 1000",
    "last": "a whole number from 1 to 1000",
    "executions": "a list of at most 10,000 executions",
}


def _explain(error: str) -> str:
    found = _AT.match(error)
    problem, path = (found[1], found[2]) if found else (error, "")
    if not path and problem.startswith("Expected"):
        return f"the body must be a JSON object: {problem}"
    field = re.split(r"[.\[]", re.sub(r"\[[^]]*\]", "", path))[-1]
    cure = _CURES.get(field)
    where = f"{path}: " if path else ""
    return f"{where}{problem}; {cure}" if cure else f"{where}{problem}"
