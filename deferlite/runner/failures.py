"""Error objects: what an exception of the user's code looks like in a result."""

from __future__ import annotations

import json
import os
import traceback
from types import TracebackType

LONGEST = 64 * 1024
"""Characters kept of a message and of a stack."""

_RUNNER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SDK = os.sep + os.path.join("deferlite", "sdk") + os.sep
_ASYNCIO = os.path.join(os.path.dirname(os.__file__), "asyncio") + os.sep


def error_object(name: str, message: str, stack: str = "") -> bytes:
    value = {"name": _clean(name), "message": _clean(message), "stack": _clean(stack)}
    return json.dumps(value).encode()


def describe(error: BaseException) -> bytes:
    """The error object of ``error``, its stack without the runner's frames, its causes kept."""
    try:
        message = str(error)
    except Exception as second:
        message = f"<str() of this error raised {type(second).__name__}>"
    return error_object(type(error).__name__, message, _stack(error))


def _stack(error: BaseException) -> str:
    try:
        told = traceback.TracebackException(type(error), error, users(error.__traceback__))
        _leave_out_ours(told, set())
        return "".join(told.format())
    except Exception:
        return ""


def _leave_out_ours(told: traceback.TracebackException | None, seen: set[int]) -> None:
    """The SDK's frames, of causes too: a child's error is raised by code that the user has not written."""
    if told is None or id(told) in seen:
        return
    seen.add(id(told))
    told.stack[:] = [frame for frame in told.stack if _SDK not in frame.filename]
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        _leave_out_ours(other, seen)


def users(trace: TracebackType | None) -> TracebackType | None:
    """``trace`` from the first frame that is neither the runner's nor the event loop's above the user's code."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((_RUNNER, _ASYNCIO, "<frozen importlib")):
            return trace
        trace = trace.tb_next
    return None


def _clean(text: str) -> str:
    """Not too long, and without lone surrogates, which no strict reader of JSON takes."""
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return text.encode(errors="backslashreplace").decode()
