"""deferlite: background functions on one machine.

::

    from deferlite import defer

    @defer(retry=5, concurrency=2)
    def import_contacts(company: str, contacts: list[dict]) -> int: ...

    execution = import_contacts("acme", [])   # enqueues
"""

from deferlite.sdk.calls import (
    acancel_execution,
    aget_execution,
    aget_execution_result,
    alist_execution_attempts,
    alist_executions,
    arerun_execution,
    areschedule_execution,
    assign_options,
    await_result,
    cancel_execution,
    get_execution,
    get_execution_result,
    list_execution_attempts,
    list_executions,
    rerun_execution,
    reschedule_execution,
)
from deferlite.sdk.current import CurrentExecution, current_execution
from deferlite.sdk.decorator import defer
from deferlite.sdk.errors import (
    ApiError,
    BadRequest,
    ConfigurationError,
    Conflict,
    DeferError,
    ExecutionAborted,
    ExecutionCancelled,
    ExecutionDiscarded,
    ExecutionError,
    ExecutionFailed,
    NotFound,
    PayloadTooLarge,
    ResultNotReady,
    ServerUnavailable,
    Unauthorized,
)
from deferlite.sdk.executions import Execution, Page
from deferlite.sdk.functions import AsyncBackgroundFunction, BackgroundFunction
from deferlite.sdk.retry import RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "AsyncBackgroundFunction",
    "BackgroundFunction",
    "BadRequest",
    "ConfigurationError",
    "Conflict",
    "CurrentExecution",
    "DeferError",
    "Execution",
    "ExecutionAborted",
    "ExecutionCancelled",
    "ExecutionDiscarded",
    "ExecutionError",
    "ExecutionFailed",
    "NotFound",
    "Page",
    "PayloadTooLarge",
    "ResultNotReady",
    "RetryPolicy",
    "ServerUnavailable",
    "Unauthorized",
    "__version__",
    "acancel_execution",
    "aget_execution",
    "aget_execution_result",
    "alist_execution_attempts",
    "alist_executions",
    "arerun_execution",
    "areschedule_execution",
    "assign_options",
    "await_result",
    "cancel_execution",
    "current_execution",
    "defer",
    "get_execution",
    "get_execution_result",
    "list_execution_attempts",
    "list_executions",
    "rerun_execution",
    "reschedule_execution",
]
