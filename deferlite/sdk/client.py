"""The backend that talks to a deferlite server: version 2 of the Defer API."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from deferlite.sdk import errors
from deferlite.sdk.backends import LONGEST_BATCH
from deferlite.sdk.executions import Ended, Execution, NewExecution, Page, Query, format_time
from deferlite.sdk.payload import decode, encode
from deferlite.sdk.transport import Answer, exchange, parse_endpoint

if TYPE_CHECKING:  # Only coroutines need it, and it takes long to import.
    from concurrent.futures import Executor

T = TypeVar("T")

_BASE = "/public/v2/executions"
_TIMEOUT = 30.0
_LONGEST_WAIT = 30.0
_LONGEST_ASYNC_WAIT = 5.0
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
    422: errors.BadRequest,
}
_CURES = {
    401: "DEFER_TOKEN is not, or no longer, a token of this server: `deferlite token create ENV` makes one",
    413: "keep the data in a file, a bucket or the database and pass its key; send long batches in parts",
}


class HttpBackend:
    """Calls over HTTP. Objects of this class are light: connections are shared by all of them."""

    def __init__(self, endpoint: str, token: str) -> None:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise errors.ConfigurationError(
                "DEFER_TOKEN holds characters that no token has: copy it once more from `deferlite token create`"
            )
        self._endpoint = parse_endpoint(endpoint)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "deferlite-python",
        }

    def enqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        if not requests:
            return []
        if len(requests) > LONGEST_BATCH:
            raise ValueError(
                f"at most {LONGEST_BATCH:,} executions go at once, not {len(requests):,}: send them in parts"
            )
        # With keys of their own, requests may be sent again when a connection breaks: each is taken once.
        keyed = len(requests) <= _MOST_KEYED
        key = uuid.uuid4().hex[:20]
        bodies = [_body(request, f"{key}-{number}" if keyed else None) for number, request in enumerate(requests)]
        if len(bodies) == 1:
            return [_execution(self._call("PUT", "", bodies[0], repeatable=True))]
        answer = self._call("PUT", "/batch", {"executions": bodies}, repeatable=keyed)
        return [Execution.from_json(item) for item in _json(answer)["data"]]

    async def aenqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        import asyncio

        return await asyncio.to_thread(self.enqueue, requests)

    def outcome(self, execution_id: str, timeout: float) -> Ended | None:
        patience = _Patience(time.monotonic() + timeout)
        return self._wait(execution_id, timeout, _LONGEST_WAIT, patience)

    async def aoutcome(self, execution_id: str, timeout: float) -> Ended | None:
        deadline = time.monotonic() + timeout
        patience = _Patience(deadline)
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            turn = min(left, _LONGEST_ASYNC_WAIT)
            ended = await _in_waiting_thread(partial(self._wait, execution_id, turn, turn, patience))
            if ended is not None or left <= turn:
                return ended

    def _wait(self, execution_id: str, timeout: float, turn: float, patience: _Patience) -> Ended | None:
        """Ask for the result until it is there or ``timeout`` is over, ``turn`` seconds at a time."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            wait = min(left, turn)
            try:
                answer = self._result(execution_id, wait)
            except errors.ServerUnavailable as error:
                patience.spend(error)
                continue
            patience.restore()
            if answer.status != 202:
                return self._ended(execution_id, answer)
            if left <= wait:
                return None

    def _result(self, execution_id: str, wait: float) -> Answer:
        target = f"/{quote(execution_id, safe='')}/results?wait={wait:.3f}".rstrip("0").rstrip(".")
        return self._call("GET", target, repeatable=True, timeout=wait + _TIMEOUT)

    def _ended(self, execution_id: str, answer: Answer) -> Ended:
        if answer.status == 204:
            execution = self.get(execution_id)
            return Ended(execution.state, None, execution)
        value = _json(answer)
        if answer.headers.get("deferlite-state") == "succeed":
            return Ended("succeed", value)
        execution = self.get(execution_id)
        return Ended(execution.state, value, execution)

    def get(self, execution_id: str) -> Execution:
        return _execution(self._call("GET", f"/{quote(execution_id, safe='')}", repeatable=True))

    def cancel(self, execution_id: str, force: bool) -> Execution:
        target = f"/{quote(execution_id, safe='')}/cancellation"
        answer = self._call("POST", target, {"force": force})
        # 202: an abort is in progress already, which is what was asked for.
        return self.get(execution_id) if answer.status == 202 else _execution(answer)

    def reschedule(self, execution_id: str, moment: datetime | None) -> Execution:
        body = {} if moment is None else {"schedule_for": format_time(moment)}
        return _execution(self._call("PATCH", f"/{quote(execution_id, safe='')}/schedule", body, repeatable=True))

    def rerun(self, execution_id: str) -> Execution:
        return _execution(self._call("POST", f"/{quote(execution_id, safe='')}/reruns", {}))

    def find(self, query: Query) -> Page[Execution]:
        return _page(self._call("POST", "", _query_body(query), repeatable=True))

    def attempts(self, execution_id: str, query: Query) -> Page[Execution]:
        target = f"/{quote(execution_id, safe='')}/attempts"
        return _page(self._call("POST", target, _query_body(query), repeatable=True))

    def _call(
        self,
        method: str,
        target: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = False,
        timeout: float = _TIMEOUT,
    ) -> Answer:
        data = None if body is None else encode(body).encode()
        answer = exchange(
            self._endpoint, method, _BASE + target, self._headers, data, timeout=timeout, repeatable=repeatable
        )
        if not 200 <= answer.status < 300:
            raise self._error(answer)
        return answer

    def _error(self, answer: Answer) -> errors.ApiError:
        if 300 <= answer.status < 400:
            place = answer.headers.get("location", "elsewhere")
            return errors.ApiError(
                f"{self._endpoint} sends its callers on to {place}: put that address into DEFER_ENDPOINT", answer.status
            )
        kind = _STATUSES.get(answer.status, errors.ServerUnavailable if answer.status >= 500 else errors.ApiError)
        code, message = _error_fields(answer)
        cure = _CURES.get(answer.status)
        return kind(f"{message} ({cure})" if cure else message, answer.status, code)


class _Patience:
    """How much longer a wait bears with a server that does not answer, since it may be starting again."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._until = math.inf

    def restore(self) -> None:
        self._until = math.inf

    def spend(self, error: Exception) -> None:
        """Pause before the next try, or raise ``error`` once patience is over."""
        now = time.monotonic()
        self._until = min(self._until, now + _PATIENCE, self._deadline)
        if now >= self._until:
            raise error
        time.sleep(_PAUSE)


def _body(request: NewExecution, key: str | None) -> dict[str, Any]:
    optional = {
        "idempotency_key": request.idempotency_key or key,
        "keyword_arguments": dict(request.keyword_arguments) or None,
        "schedule_for": format_time(request.scheduled_at),
        "discard_after": format_time(request.discard_at),
        "metadata": dict(request.metadata) or None,
        "priority": request.priority or None,
        "concurrency_key": request.concurrency_key,
    }
    return {
        "function_name": request.definition.name,
        "function_arguments": list(request.arguments),
    } | {name: value for name, value in optional.items() if value is not None}


def _query_body(query: Query) -> dict[str, Any]:
    filters = {
        "states": list(query.states),
        "function_ids": list(query.function_ids),
        "error_codes": list(query.error_codes),
        "scheduled_at": _interval(query.scheduled_from, query.scheduled_to),
        "started_at": _interval(query.started_from, query.started_to),
        "executed_by": query.executed_by,
        "metadata": [{"key": key, "values": list(values)} for key, values in query.metadata.items()],
    }
    page = {name: getattr(query, name) for name in ("first", "after", "last", "before")}
    return {
        "page": {name: value for name, value in page.items() if value is not None},
        "filters": {name: value for name, value in filters.items() if value},
    }


def _interval(start: datetime | None, end: datetime | None) -> dict[str, str]:
    ends = {"from": format_time(start), "to": format_time(end)}
    return {name: text for name, text in ends.items() if text is not None}


def _json(answer: Answer) -> Any:
    try:
        return decode(answer.body)
    except ValueError:
        raise errors.ApiError("what answers at DEFER_ENDPOINT is no deferlite server: its answer is not JSON") from None


def _execution(answer: Answer) -> Execution:
    try:
        return Execution.from_json(_json(answer)["data"])
    except (KeyError, TypeError, ValueError):
        raise errors.ApiError("what answers at DEFER_ENDPOINT is no deferlite server: it sent no execution") from None


def _page(answer: Answer) -> Page[Execution]:
    data = _json(answer)
    info = data.get("page_info") or {}
    return Page(
        items=tuple(Execution.from_json(item) for item in data["data"]),
        has_next_page=bool(info.get("has_next_page")),
        has_prev_page=bool(info.get("has_prev_page")),
        start_cursor=info.get("start_cursor") or None,
        end_cursor=info.get("end_cursor") or None,
    )


def _error_fields(answer: Answer) -> tuple[str, str]:
    try:
        data = decode(answer.body)
        return str(data["error"]), str(data["message"])
    except (ValueError, KeyError, TypeError):
        return "", f"the server answered {answer.status} without saying why"


async def _in_waiting_thread(wait: Callable[[], T]) -> T:
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(_waiting_threads(os.getpid()), wait)


@lru_cache(maxsize=1)
def _waiting_threads(pid: int) -> Executor:
    """Threads for waits, apart from the application's own; ``pid`` since no thread survives a fork."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_WAITING_THREADS, thread_name_prefix="deferlite-wait")
