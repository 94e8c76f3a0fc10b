"""What the SDK raises. Everything is a ``DeferError``; each message says what is wrong and what to do about it."""

from __future__ import annotations

import builtins
from functools import lru_cache
from typing import Any

from deferlite.sdk.executions import Execution


class DeferError(Exception):
    """Base of everything the SDK raises, except TypeError and ValueError for a wrong call."""


class ConfigurationError(DeferError, ValueError):
    """``DEFER_ENDPOINT`` or ``DEFER_TOKEN`` cannot be used as it stands."""


class ApiError(DeferError):
    """The server refused a request. ``status`` is HTTP's, ``code`` the server's word for it."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class BadRequest(ApiError):
    """400: the server cannot do this, for instance because it has no function of that name."""


class Unauthorized(ApiError):
    """401 or 403: the token is unknown, revoked, or that of an execution that has ended."""


class NotFound(ApiError):
    """404: no such execution."""


class Conflict(ApiError):
    """409: the execution is in a state that does not allow this."""


class PayloadTooLarge(ApiError):
    """413: the arguments are bigger than the server takes."""


class ServerUnavailable(ApiError):
    """No deferlite server answers, it broke off, or it answered 5xx. Trying again may help."""


class ResultNotReady(DeferError):
    """The execution has not ended yet."""


class ExecutionError(DeferError):
    """An execution has no value to give. ``execution`` is its last known record."""

    def __init__(self, message: str, execution: Execution) -> None:
        super().__init__(message)
        self.execution = execution

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.execution)


class ExecutionCancelled(ExecutionError):
    """It was cancelled before it started."""


class ExecutionAborted(ExecutionError):
    """It was stopped while it ran."""


class ExecutionDiscarded(ExecutionError):
    """It had not started by its ``discard_after``."""


class ExecutionFailed(ExecutionError):
    """The function raised, or its execution failed otherwise.

    ``name``, ``message`` and ``stack`` are the child's error, ``error_code`` one of ER0000 to ER0003. Where the child
    raised a built-in exception, the error raised here is one of that class as well: ``except ValueError`` works.
    """

    def __init__(self, name: str, message: str, stack: str, execution: Execution) -> None:
        super().__init__(message, execution)
        self.name = name
        self.message = message
        self.stack = stack
        self.error_code = execution.error_code

    def __str__(self) -> str:
        return f"{self.execution.function_name} failed with {self.name}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _failed, ({"name": self.name, "message": self.message, "stack": self.stack}, self.execution)


_NEVER = {
    "cancelled": (ExecutionCancelled, "was cancelled before it started"),
    "aborted": (ExecutionAborted, "was aborted while it ran"),
    "discarded": (ExecutionDiscarded, "was discarded: it had not started by its discard_after"),
}


def value_of(execution: Execution, result: Any) -> Any:
    """What an execution returned; ``result`` is that, or the error object of a failed one.

    Raises:
        ExecutionError: it ended without a value.
        ResultNotReady: it has not ended.
    """
    if execution.state == "succeed":
        return result
    if execution.state == "failed":
        raise _failed(result, execution)
    if execution.state in _NEVER:
        kind, words = _NEVER[execution.state]
        raise kind(f"{execution.function_name} ({execution.id}) {words}", execution)
    raise not_ready(execution.id)


def not_ready(execution_id: str) -> ResultNotReady:
    return ResultNotReady(f"execution {execution_id} has not ended yet: ask again later, or wait longer")


def _failed(error: Any, execution: Execution) -> ExecutionFailed:
    fields = error if isinstance(error, dict) else {"message": str(error)}
    name, message, stack = (str(fields.get(key) or "") for key in ("name", "message", "stack"))
    try:
        return _failure_class(name or "Error")(name or "Error", message, stack, execution)
    except TypeError:  # A built-in class that insists on arguments of its own, such as UnicodeDecodeError.
        return ExecutionFailed(name, message, stack, execution)


@lru_cache(maxsize=256)
def _failure_class(name: str) -> type[ExecutionFailed]:
    twin: Any = getattr(builtins, name, None)
    # Raised inside a generator or a coroutine, these two mean something else.
    mixes = isinstance(twin, type) and issubclass(twin, Exception) and twin not in (StopIteration, StopAsyncIteration)
    bases = (ExecutionFailed, twin) if mixes else (ExecutionFailed,)
    try:
        # __name__ is the child's, so that a parent that lets it through fails under the same name.
        return type(name, bases, {"__module__": __name__})
    except (TypeError, ValueError):
        return ExecutionFailed
