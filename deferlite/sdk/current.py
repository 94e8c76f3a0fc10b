"""The execution the running code belongs to."""

from __future__ import annotations

import os
from contextvars import ContextVar

from deferlite.sdk.executions import CurrentExecution

in_process: ContextVar[CurrentExecution | None] = ContextVar("deferlite_execution", default=None)
"""Set around a function that the in-process backend runs."""


def current_execution() -> CurrentExecution | None:
    """The execution this code runs in, or None outside of one."""
    found = in_process.get()
    if found is not None:
        return found
    variables = os.environ
    if not variables.get("DEFER_EXECUTION_ID"):
        return None
    attempt = variables.get("DEFER_ATTEMPT", "")
    return CurrentExecution(
        id=variables["DEFER_EXECUTION_ID"],
        function_name=variables.get("DEFER_FUNCTION", ""),
        attempt=int(attempt) if attempt.isdecimal() else 1,
        environment=variables.get("DEFER_ENVIRONMENT", ""),
        build_id=variables.get("DEFER_BUILD_ID", ""),
        commit=variables.get("DEFER_COMMIT", ""),
    )
