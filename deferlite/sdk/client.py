"""The backend that talks to a deferlite server: version 2 of the Defer API."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from deferlite.sdk import errors
from deferlite.sdk.executions import Execution, NewExecution, Page, Query, format_time
from deferlite.sdk.payload import decode, encode
from deferlite.sdk.transport import Answer, exchange, parse_endpoint

if TYPE_CHECKING:  # Only coroutines need it, and it takes long to import.
    from concurrent.futures import Executor

T = TypeVar("T")

_BASE = "/public/v2/executions"
_TIMEOUT = 30.0
_TURN = 30.0
"""Seconds that one request waits for a result."""
_ASYNC_TURN = 5.0
"""A wait occupies a thread: short turns let many coroutines share a few of them."""
_WAITING_THREADS = 64
_MOST_KEYED = 1_000
"""Above it the keys would take much of the one MiB that a request may have."""
_PATIENCE = 30.0
_PAUSE = 0.25

_STATUSES: dict[int, type[errors.ApiError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Unauthorized,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.PayloadTooLarge,
}
_CURES = {
    401: " (DEFER_TOKEN is not, or no longer, a token of this server: `deferlite token create ENV` makes one)",
    413: " (keep the data in a file, a bucket or the database and pass its key; send long batches in parts)",
}


class HttpBackend:
    """Calls over HTTP. Objects of this class are light: connections are shared by all of them."""

    def __init__(self, endpoint: str, token: str) -> None:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise errors.ConfigurationError(
                "DEFER_TOKEN holds characters that no token has: copy it once more from `deferlite token create`"
            )
        self._endpoint = parse_endpoint(endpoint)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def enqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        if not requests:
            return []
        # With keys of their own, requests may be sent again when a connection breaks: each is taken once.
        keyed, key = len(requests) <= _MOST_KEYED, uuid.uuid4().hex[:20]
        bodies = [_body(request, f"{key}-{number}" if keyed else None) for number, request in enumerate(requests)]
        if len(bodies) == 1:
            return [self._read(_execution, "PUT", "", bodies[0])]
        return self._read(_executions, "PUT", "/batch", {"executions": bodies}, repeatable=keyed)

    async def aenqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        import asyncio

        return await asyncio.to_thread(self.enqueue, requests)

    def result(self, execution_id: str, timeout: float) -> Any:
        wait = _Wait(timeout, _TURN)
        while (found := self._ask(execution_id, wait)) is None:
            pass
        return found[0]

    async def aresult(self, execution_id: str, timeout: float) -> Any:
        import asyncio

        loop, wait = asyncio.get_running_loop(), _Wait(timeout, _ASYNC_TURN)
        while (found := await loop.run_in_executor(_threads(os.getpid()), self._ask, execution_id, wait)) is None:
            pass
        return found[0]

    def _ask(self, execution_id: str, wait: _Wait) -> tuple[Any] | None:
        """One turn of waiting for a result: the value, or None where it is worth asking again."""
        seconds = wait.turn()
        target = f"{_path(execution_id)}/results?wait={seconds:g}"
        try:
            answer = self._call("GET", target, timeout=seconds + _TIMEOUT)
        except errors.ServerUnavailable as error:
            wait.bear(error)
            return None
        wait.until = math.inf
        if answer.status == 202:
            if wait.is_over():
                raise errors.not_ready(execution_id)
            return None
        value = None if answer.status == 204 else _parse(_anything, answer)
        return (value if answer.state == "succeed" else errors.value_of(self.get(execution_id), value),)

    def get(self, execution_id: str) -> Execution:
        return self._read(_execution, "GET", _path(execution_id))

    def cancel(self, execution_id: str, force: bool) -> Execution:
        answer = self._call("POST", f"{_path(execution_id)}/cancellation", {"force": force}, repeatable=False)
        # 202: an abort is in progress already, which is what was asked for.
        return self.get(execution_id) if answer.status == 202 else _parse(_execution, answer)

    def reschedule(self, execution_id: str, moment: datetime | None) -> Execution:
        body = {} if moment is None else {"schedule_for": format_time(moment)}
        return self._read(_execution, "PATCH", f"{_path(execution_id)}/schedule", body)

    def rerun(self, execution_id: str) -> Execution:
        return self._read(_execution, "POST", f"{_path(execution_id)}/reruns", {}, repeatable=False)

    def find(self, query: Query) -> Page[Execution]:
        return self._read(_page, "POST", "", query)

    def attempts(self, execution_id: str, query: Query) -> Page[Execution]:
        return self._read(_page, "POST", f"{_path(execution_id)}/attempts", query)

    def _read(self, shape: Callable[[Any], T], *request: Any, **options: Any) -> T:
        return _parse(shape, self._call(*request, **options))

    def _call(
        self,
        method: str,
        target: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
        timeout: float = 0,
    ) -> Answer:
        data = None if body is None else encode(body).encode()
        seconds, target = timeout or _TIMEOUT, _BASE + target
        answer = exchange(self._endpoint, method, target, self._headers, data, timeout=seconds, repeatable=repeatable)
        if not 200 <= answer.status < 300:
            raise _error(answer)
        return answer


class _Wait:
    """The time that a wait has left, and its patience with a server that may be starting again."""

    def __init__(self, timeout: float, turn: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._turn = turn
        self.until = math.inf
        """When patience with a server that does not answer ends."""

    def turn(self) -> float:
        """Seconds for the next request."""
        return max(min(self._turn, self._deadline - time.monotonic()), 0.0)

    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def bear(self, error: Exception) -> None:
        """Pause before the next try, or raise ``error`` once patience is over."""
        now = time.monotonic()
        self.until = min(self.until, now + _PATIENCE, self._deadline)
        if now >= self.until:
            raise error
        time.sleep(_PAUSE)


def _path(execution_id: str) -> str:
    return "/" + quote(execution_id, safe="")


def _body(request: NewExecution, key: str | None) -> dict[str, Any]:
    options = request.options
    optional = {
        "keyword_arguments": request.keyword_arguments or None,
        "schedule_for": request.scheduled_at and format_time(request.scheduled_at),
        "discard_after": request.discard_at and format_time(request.discard_at),
        "metadata": dict(options.metadata) or None,
        "priority": options.priority or None,
        "idempotency_key": options.idempotency_key or key,
        "concurrency_key": options.concurrency_key,
    }
    body = {"function_name": request.definition.name, "function_arguments": request.arguments}
    return body | {name: value for name, value in optional.items() if value is not None}


def _error(answer: Answer) -> errors.ApiError:
    kind = _STATUSES.get(answer.status, errors.ServerUnavailable if answer.status >= 500 else errors.ApiError)
    try:
        data = decode(answer.body)
        code, message = str(data["error"]), str(data["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "", f"what answers at DEFER_ENDPOINT said {answer.status} without a reason"
    return kind(message + _CURES.get(answer.status, ""), answer.status, code)


def _parse(shape: Callable[[Any], T], answer: Answer) -> T:
    try:
        return shape(decode(answer.body))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise errors.ApiError(_STRANGER, answer.status) from None


_STRANGER = "what answers at DEFER_ENDPOINT is no deferlite server: its answer is not of the Defer API"


def _anything(answer: Any) -> Any:
    return answer


def _execution(answer: Any) -> Execution:
    return Execution.from_json(answer["data"])


def _executions(answer: Any) -> list[Execution]:
    return [Execution.from_json(item) for item in answer["data"]]


def _page(answer: Any) -> Page[Execution]:
    info = answer["page_info"]
    cursors = (info.get("start_cursor") or None, info.get("end_cursor") or None)
    return Page(tuple(_executions(answer)), info["has_next_page"], info["has_prev_page"], *cursors)


@lru_cache(maxsize=1)
def _threads(pid: int) -> Executor:
    """Threads for waits, apart from the application's own; ``pid`` since no thread survives a fork."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_WAITING_THREADS, thread_name_prefix="deferlite-wait")
