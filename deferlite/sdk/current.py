"""The execution the running code belongs to."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class CurrentExecution:
    """The execution this code runs in."""

    id: str
    function_name: str
    attempt: int
    environment: str = ""
    build_id: str = ""
    commit: str = ""


in_process: ContextVar[CurrentExecution | None] = ContextVar("deferlite_execution", default=None)
"""Set around a function that the in-process backend runs."""


def current_execution() -> CurrentExecution | None:
    """The execution this code runs in, or None outside of one."""
    found, variables = in_process.get(), os.environ
    if found is not None or not variables.get("DEFER_EXECUTION_ID"):
        return found
    return CurrentExecution(
        id=variables["DEFER_EXECUTION_ID"],
        function_name=variables.get("DEFER_FUNCTION", ""),
        attempt=int(variables.get("DEFER_ATTEMPT") or 1),
        environment=variables.get("DEFER_ENVIRONMENT", ""),
        build_id=variables.get("DEFER_BUILD_ID", ""),
        commit=variables.get("DEFER_COMMIT", ""),
    )
