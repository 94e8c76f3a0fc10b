"""Bad input: each a clear error of the right status, in the one shape, naming the field and the cure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deferlite.store import Store

pytestmark = pytest.mark.anyio

E = "/public/v2/executions"
V1 = "/public/v1"
ID = "0190a0c4-7d5e-7cc2-8c1f-3a5be1f0c9d4"
MIB = 1024 * 1024


def hello(**more: Any) -> bytes:
    return json.dumps({"function_name": "hello", **more}).encode()


def filters(**more: Any) -> bytes:
    return json.dumps({"filters": more}).encode()


def page(**more: Any) -> bytes:
    return json.dumps({"page": more}).encode()


MOMENT = 'such as "2026-11-23T08:00:00Z"'
# method, path, body, status, code, what the message says
CASES: list[tuple[str, str, bytes, int, str, str]] = [
    ("PUT", E, b"", 400, "bad_request", "missing required field `function_name`"),
    ("PUT", E, b"{", 400, "bad_request", "the body is not JSON: Input data was truncated"),
    ("PUT", E, b"hello", 400, "bad_request", "the body is not JSON"),
    ("PUT", E, hello() + b"x", 400, "bad_request", "trailing characters"),
    ("PUT", E, b"[]", 400, "bad_request", "the body must be a JSON object: Expected `object`, got `array`"),
    ("PUT", E, b"null", 400, "bad_request", "the body must be a JSON object"),
    ("PUT", E, b"\xff", 400, "bad_request", "the body is not UTF-8 text"),
    ("PUT", E, b'{"function_name":"hello","function_arguments":["\xff"]}', 400, "bad_request", "not UTF-8"),
    ("PUT", E, b'{"function_name":"hello","function_arguments":[1,}', 400, "bad_request", "not JSON"),
    ("PUT", E, b'{"function_name":"hello","function_arguments":[NaN]}', 400, "bad_request", "not JSON"),
    ("PUT", E, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", 400, "bad_request", "nested too deeply"),
    ("PUT", E, b'{"function_name":7}', 400, "bad_request", "function_name: Expected `str`, got `int`"),
    ("PUT", E, b'{"function_name":"missing"}', 400, "bad_request", 'cannot find function "missing"'),
    ("PUT", E, b'{"function_name":""}', 400, "bad_request", 'cannot find function ""'),
    ("PUT", E, hello(function_arguments={}), 400, "bad_request", "function_arguments: write a JSON array"),
    ("PUT", E, hello(function_arguments=None), 400, "bad_request", "function_arguments: write a JSON array"),
    ("PUT", E, hello(keyword_arguments=[]), 400, "bad_request", "keyword_arguments: write a JSON object"),
    ("PUT", E, hello(schedule_for="tomorrow"), 400, "bad_request", MOMENT),
    ("PUT", E, hello(schedule_for="2026-11-23T08:00:00"), 400, "bad_request", "schedule_for: Expected"),
    ("PUT", E, hello(schedule_for=7), 400, "bad_request", MOMENT),
    ("PUT", E, hello(schedule_for="9999-12-31T23:59:59-10:00"), 400, "bad_request", "schedule_for: later than"),
    ("PUT", E, hello(discard_after="1h"), 400, "bad_request", "discard_after: Invalid RFC3339"),
    ("PUT", E, hello(metadata={"a": 1}), 400, "bad_request", "an object of strings"),
    ("PUT", E, hello(metadata=[]), 400, "bad_request", "metadata: Expected `object | null`, got `array`"),
    ("PUT", E, hello(metadata={str(n): "" for n in range(26)}), 400, "bad_request", "metadata: 26 pairs; 25"),
    ("PUT", E, hello(metadata={"": "x"}), 400, "bad_request", "metadata: the key ''"),
    ("PUT", E, hello(metadata={"a": ""}), 400, "bad_request", "metadata: the value of 'a'"),
    ("PUT", E, hello(metadata={"a": "é"}), 400, "bad_request", "printable ASCII"),
    ("PUT", E, hello(metadata={"k" * 257: "x"}), 400, "bad_request", "1 to 256"),
    ("PUT", E, hello(metadata={"a": "\n"}), 400, "bad_request", "printable ASCII"),
    ("PUT", E, hello(priority=101), 400, "bad_request", "priority: Expected `int` <= 100"),
    ("PUT", E, hello(priority="high"), 400, "bad_request", "a whole number from -100 to 100"),
    ("PUT", E, hello(priority=1.5), 400, "bad_request", "priority: "),
    ("PUT", E, hello(idempotency_key=""), 400, "bad_request", "idempotency_key: write 1 to 256"),
    ("PUT", E, hello(concurrency_key="é"), 400, "bad_request", "concurrency_key: write 1 to 256"),
    ("PUT", E, hello(function_arguments=["x" * MIB]), 413, "payload_too_large", "1 MiB at most"),
    ("PUT", f"{E}/batch", b"{}", 400, "bad_request", "missing required field `executions`"),
    ("PUT", f"{E}/batch", b'{"executions":[{}]}', 400, "bad_request", "executions[0]: Object missing"),
    ("PUT", f"{E}/batch", b'{"executions":{}}', 400, "bad_request", "a list of at most 10,000 executions"),
    (
        "PUT",
        f"{E}/batch",
        json.dumps({"executions": [{"function_name": "hello", "metadata": {"": ""}}]}).encode(),
        400,
        "bad_request",
        "executions[0].metadata: ",
    ),
    (
        "PUT",
        f"{E}/batch",
        json.dumps({"executions": [{"function_name": "h"}] * 10_001}).encode(),
        400,
        "bad_request",
        "executions: ",
    ),
    ("PUT", f"{E}/batch", b'{"executions":"' + b"x" * MIB + b'"}', 413, "payload_too_large", "smaller"),
    ("POST", E, b"[]", 400, "bad_request", "the body must be a JSON object"),
    ("POST", E, page(first=0), 400, "bad_request", "page.first: Expected `int` >= 1; a whole number from 1 to 1000"),
    ("POST", E, page(first=1001), 400, "bad_request", "page.first: "),
    ("POST", E, page(last="2"), 400, "bad_request", "page.last: "),
    ("POST", E, page(first=1, last=1), 400, "bad_request", "page: write first with after, or last with before"),
    ("POST", E, page(first=1, before="x"), 400, "bad_request", "page: write first with after"),
    ("POST", E, page(after="nonsense"), 400, "bad_request", "page.after: "),
    ("POST", E, page(before="é\u0000"), 400, "bad_request", "page.before: "),
    ("POST", E, page(size=3), 400, "bad_request", "page: Object contains unknown field `size`"),
    ("POST", E, filters(states=["done"]), 400, "bad_request", "one of created, started, aborting, succeed"),
    ("POST", E, filters(states="failed"), 400, "bad_request", "filters.states: Expected `array | null`"),
    ("POST", E, filters(error_codes=["ER0009"]), 400, "bad_request", "one of ER0000, ER0001, ER0002, ER0003"),
    ("POST", E, filters(function_ids=["hello"]), 400, "bad_request", 'filters.function_ids[0]: "hello" is not an id'),
    ("POST", E, filters(scheduled_at={"from": "now"}), 400, "bad_request", "filters.scheduled_at.from: "),
    ("POST", E, filters(started_at={"since": None}), 400, "bad_request", "unknown field `since`"),
    (
        "POST",
        E,
        filters(started_at={"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
        400,
        "bad_request",
        "filters.started_at: from is later than to",
    ),
    ("POST", E, filters(executed_by=7), 400, "bad_request", "filters.executed_by: "),
    ("POST", E, filters(metadata=[{"key": "a", "values": []}]), 400, "bad_request", "filters.metadata[0].values: "),
    ("POST", E, filters(metadata=[{"values": ["a"]}]), 400, "bad_request", "missing required field `key`"),
    ("POST", E, filters(state=["failed"]), 400, "bad_request", "filters: Object contains unknown field `state`"),
    ("GET", f"{E}/7", b"", 400, "bad_request", 'malformed id "7": an id is a UUID'),
    ("GET", f"{E}/{ID}x", b"", 400, "bad_request", "malformed id"),
    ("GET", f"{E}/{{{ID[:-2]}}}", b"", 400, "bad_request", "malformed id"),
    ("GET", f"{E}/{'x' * 500}", b"", 400, "bad_request", "malformed id"),
    ("GET", f"{E}/{ID}", b"", 404, "not_found", f'cannot find execution "{ID}"'),
    ("GET", f"{E}/{ID}/results", b"", 404, "not_found", f'cannot find execution "{ID}"'),
    ("GET", f"{E}/{ID}/results?wait=soon", b"", 400, "bad_request", "wait: write a number of seconds"),
    ("GET", f"{E}/{ID}/results?wait=-1", b"", 400, "bad_request", "wait: "),
    ("GET", f"{E}/{ID}/results?wait=nan", b"", 400, "bad_request", "wait: "),
    ("GET", f"{E}/{ID}/results?wait=3600", b"", 400, "bad_request", "from 0 to 300"),
    ("GET", f"{E}/{ID}/arguments", b"", 404, "not_found", "cannot find execution"),
    ("GET", f"{E}/{ID}/logs", b"", 404, "not_found", "cannot find execution"),
    ("POST", f"{E}/{ID}/cancellation", b"", 404, "not_found", "cannot find execution"),
    ("POST", f"{E}/7/cancellation", b"", 400, "bad_request", "malformed id"),
    ("PATCH", f"{E}/{ID}/schedule", b"{}", 404, "not_found", "cannot find execution"),
    ("PATCH", f"{E}/{ID}/schedule", b'{"schedule_for":"soon"}', 400, "bad_request", "schedule_for: "),
    ("POST", f"{E}/{ID}/reruns", b"", 404, "not_found", "cannot find execution"),
    ("POST", f"{E}/{ID}/attempts", b"{}", 404, "not_found", "cannot find execution"),
    ("POST", f"{E}/{ID}/attempts", page(first=-1), 400, "bad_request", "page.first: "),
    ("DELETE", E, b"", 405, "method_not_allowed", f"DELETE is not a method of {E}: use PUT, POST, GET, HEAD"),
    ("POST", f"{E}/{ID}", b"", 405, "method_not_allowed", "use GET, HEAD, OPTIONS"),
    ("GET", "/public/v2/nothing", b"", 404, "not_found", "there is no /public/v2/nothing here"),
    ("GET", "/public/v3/executions", b"", 404, "not_found", "/openapi.json lists what there is"),
    ("POST", "/healthz", b"", 405, "method_not_allowed", "POST is not a method of /healthz: use"),
    ("POST", f"{V1}/enqueue", b"{}", 400, "bad_request", "missing required field `name`"),
    ("POST", f"{V1}/enqueue", b'{"name":"missing"}', 400, "bad_request", 'cannot find function "missing"'),
    ("POST", f"{V1}/enqueue", b'{"name":"hello","arguments":7}', 400, "bad_request", "arguments: write a JSON"),
    ("POST", "/api/v1/enqueue", b'{"name":"hello","metadata":{"a":7}}', 400, "bad_request", "metadata"),
    ("GET", f"{V1}/executions/7", b"", 400, "bad_request", "malformed id"),
    ("GET", f"/api/v1/executions/{ID}", b"", 404, "not_found", f'cannot find execution "{ID}"'),
    ("POST", f"{V1}/executions/{ID}/cancel", b"{}", 404, "not_found", "cannot find execution"),
    ("POST", f"{V1}/executions/{ID}/reschedule", b"{}", 404, "not_found", "cannot find execution"),
    ("GET", f"{V1}/executions/{ID}/tries", b"", 404, "not_found", "cannot find execution"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "says"),
    CASES,
    ids=[f"{number}-{case[0]}-{case[5][:30]}" for number, case in enumerate(CASES)],
)
async def test_bad_input(
    api: httpx.AsyncClient, method: str, path: str, body: bytes, status: int, code: str, says: str
) -> None:
    answer = await api.request(method, path, content=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error", "message"}
    assert answer.json()["error"] == code
    assert says in answer.json()["message"]


async def test_a_force_that_is_no_flag(api: httpx.AsyncClient) -> None:
    made = await api.put(E, content=hello())
    answer = await api.post(f"{E}/{made.json()['data']['id']}/cancellation", json={"force": "yes"})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert answer.json()["message"].startswith("force: ")
    assert answer.json()["message"].endswith("true or false")


async def test_a_cursor_of_attempts_that_is_none(api: httpx.AsyncClient) -> None:
    made = await api.put(E, content=hello())
    answer = await api.post(f"{E}/{made.json()['data']['id']}/attempts", content=page(after="x"))
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert answer.json()["message"].startswith("page.after: ")


async def test_a_body_that_does_not_say_its_length_is_cut_off(api: httpx.AsyncClient) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 64 * 1024
            yield b"x" * 64 * 1024

    answer = await api.put(E, content=chunks())
    assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")
    assert sent <= MIB + 64 * 1024


async def test_a_body_of_exactly_one_mebibyte_is_taken(api: httpx.AsyncClient) -> None:
    frame = hello(function_arguments=[""])
    body = frame.replace(b'""', b'"' + b"x" * (MIB - len(frame)) + b'"')
    assert len(body) == MIB
    assert (await api.put(E, content=body)).status_code == 201
    assert (await api.put(E, content=body + b" ")).status_code == 413


async def test_a_length_that_says_too_much_is_refused_unread(api: httpx.AsyncClient) -> None:
    answer = await api.put(E, content=b"{}", headers={"content-length": str(10 * MIB)})
    assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")


async def test_head_and_options(api: httpx.AsyncClient) -> None:
    made = (await api.put(E, content=hello())).json()["data"]["id"]
    assert (await api.head(f"{E}/{made}")).status_code == 200
    options = await api.options(E)
    assert (options.status_code, options.headers["allow"]) == (204, "PUT, POST, GET, HEAD, OPTIONS")


async def test_a_queue_that_cannot_be_used(api: httpx.AsyncClient, store: Store) -> None:
    await store.close()
    answer = await api.put(E, content=hello())
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert "deferlite.db" not in answer.text
