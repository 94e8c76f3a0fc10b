"""Version 2 of the Defer API, call by call (DEFER-PROTOCOL: HTTP API v2; DESIGN: HTTP)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import httpx
import pytest

from deferlite.model.execution import LogLine, NewExecution
from deferlite.store import Store

pytestmark = pytest.mark.anyio

E = "/public/v2/executions"


async def put(api: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await api.put(E, json={"function_name": "hello", **body})
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def listed(api: httpx.AsyncClient, **body: Any) -> list[str]:
    answer = await api.post(E, json=body)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["data"]]


def iso(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


# Enqueue


async def test_an_enqueue_answers_the_execution(api: httpx.AsyncClient) -> None:
    data = await put(api, function_arguments=["acme", [1, 2.50]], metadata={"user": "7"})
    assert data["state"] == "created"
    assert data["function_name"] == "hello"
    assert data["metadata"] == {"user": "7"}
    for moment in ("scheduled_at", "created_at", "updated_at"):
        assert datetime.fromisoformat(data[moment].replace("Z", "+00:00")).tzinfo
    assert data["function_id"] != data["id"]


async def test_arguments_come_back_byte_for_byte(api: httpx.AsyncClient) -> None:
    body = b'{"function_name":"hello","function_arguments":[1.0, 1e2, 12345678901234567890123, "\\u00e9\xc3\xa9"]}'
    answer = await api.put(E, content=body)
    arguments = await api.get(f"{E}/{answer.json()['data']['id']}/arguments")
    assert arguments.content == b'[1.0, 1e2, 12345678901234567890123, "\\u00e9\xc3\xa9"]'
    assert arguments.headers["content-type"] == "application/json"


async def test_keyword_arguments_are_kept_and_read_on_request(api: httpx.AsyncClient) -> None:
    data = await put(api, function_arguments=[1], keyword_arguments={"b": 2})
    assert (await api.get(f"{E}/{data['id']}/arguments")).json() == [1]
    both = await api.get(f"{E}/{data['id']}/arguments", params={"keyword_arguments": "1"})
    assert both.json() == {"function_arguments": [1], "keyword_arguments": {"b": 2}}


async def test_the_idempotency_key_answers_the_same_execution(api: httpx.AsyncClient) -> None:
    first = await put(api, idempotency_key="order-7")
    assert (await put(api, idempotency_key="order-7"))["id"] == first["id"]
    assert (await put(api, idempotency_key="order-8"))["id"] != first["id"]


async def test_options_reach_the_store(api: httpx.AsyncClient, store: Store) -> None:
    data = await put(api, priority=7, concurrency_key="acme", discard_after=iso(600), schedule_for=iso(300))
    row = await store.executions.get("production", data["id"])
    assert (row.priority, row.concurrency_key) == (7, "acme")
    assert row.discard_at is not None and row.scheduled_at - row.created_at == pytest.approx(300e6, abs=5e6)


async def test_a_moment_in_another_zone_is_the_same_moment(api: httpx.AsyncClient) -> None:
    data = await put(api, schedule_for="2099-01-01T02:00:00.5+02:00")
    assert data["scheduled_at"] == "2099-01-01T00:00:00.500000Z"


async def test_nulls_count_as_left_out(api: httpx.AsyncClient) -> None:
    nothing = dict.fromkeys(("schedule_for", "discard_after", "metadata", "idempotency_key", "concurrency_key"))
    assert (await put(api, **nothing))["state"] == "created"


async def test_a_batch_is_enqueued_in_its_order(api: httpx.AsyncClient) -> None:
    bodies = [{"function_name": name, "function_arguments": [name]} for name in ("hello", "add", "hello")]
    answer = await api.put(f"{E}/batch", json={"executions": bodies})
    assert answer.status_code == 201
    assert [row["function_name"] for row in answer.json()["data"]] == ["hello", "add", "hello"]
    assert (await api.put(f"{E}/batch", json={"executions": []})).json() == {"data": []}


async def test_a_batch_is_all_or_none(api: httpx.AsyncClient) -> None:
    bodies = [{"function_name": "hello"}, {"function_name": "missing"}]
    answer = await api.put(f"{E}/batch", json={"executions": bodies})
    assert answer.status_code == 400
    assert answer.json() == {"error": "bad_request", "message": 'cannot find function "missing"'}
    assert await listed(api) == []


async def test_ten_thousand_executions_fit_in_a_batch(api: httpx.AsyncClient) -> None:
    answer = await api.put(f"{E}/batch", json={"executions": [{"function_name": "hello"}] * 10_000})
    assert answer.status_code == 201
    assert len({row["id"] for row in answer.json()["data"]}) == 10_000


# Reading one


async def test_get_answers_the_execution(api: httpx.AsyncClient) -> None:
    data = await put(api)
    answer = await api.get(f"{E}/{data['id']}")
    assert (answer.status_code, answer.json()) == (200, {"data": data})
    assert (await api.get(f"{E}/{data['id'].upper()}")).json() == {"data": data}


async def test_an_execution_of_another_environment_is_not_found(api: httpx.AsyncClient, store: Store) -> None:
    (other,) = await store.executions.enqueue("staging", [NewExecution(function_name="hello")])
    for method, path in (("GET", ""), ("GET", "/results"), ("GET", "/logs"), ("POST", "/cancellation")):
        answer = await api.request(method, f"{E}/{other.id}{path}")
        assert answer.status_code == 404
        assert answer.json()["message"] == f'cannot find execution "{other.id}"'
    assert await listed(api) == []


async def test_results_by_state(api: httpx.AsyncClient, stand_in: Any) -> None:
    data = await put(api)
    results = f"{E}/{data['id']}/results"
    waiting = await api.get(results)
    assert (waiting.status_code, waiting.headers["deferlite-state"]) == (202, "created")
    await stand_in.succeed("hello", {"total": 3})
    done = await api.get(results)
    assert (done.status_code, done.json(), done.headers["deferlite-state"]) == (200, {"total": 3}, "succeed")


async def test_the_result_of_a_failed_one_is_its_error(api: httpx.AsyncClient, stand_in: Any) -> None:
    data = await put(api)
    await stand_in.fail("hello", "no such company")
    answer = await api.get(f"{E}/{data['id']}/results")
    assert (answer.status_code, answer.headers["deferlite-state"]) == (200, "failed")
    assert answer.json() == {"name": "ValueError", "message": "no such company", "stack": "Traceback …"}
    assert (await api.get(f"{E}/{data['id']}")).json()["data"]["error_code"] == "ER0003"


async def test_a_cancelled_one_never_has_a_result(api: httpx.AsyncClient) -> None:
    data = await put(api)
    await api.post(f"{E}/{data['id']}/cancellation")
    answer = await api.get(f"{E}/{data['id']}/results?wait=5")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["deferlite-state"] == "cancelled"


async def test_wait_answers_as_soon_as_the_result_is_there(api: httpx.AsyncClient, stand_in: Any) -> None:
    data = await put(api)
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await api.get(f"{E}/{data['id']}/results?wait=30"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await stand_in.succeed("hello", 42)
    assert (answers[0].status_code, answers[0].json()) == (200, 42)


async def test_wait_gives_up_in_time(api: httpx.AsyncClient) -> None:
    data = await put(api)
    answer = await api.get(f"{E}/{data['id']}/results?wait=0.05")
    assert answer.status_code == 202
    assert "not available yet" in answer.json()["message"]


async def test_logs_are_lines(api: httpx.AsyncClient, store: Store, stand_in: Any) -> None:
    data = await put(api)
    await stand_in.start("hello")
    lines = [LogLine(1_700_000_000_000_000, "stdout", "importing"), LogLine(1_700_000_000_500_000, "stderr", "a b")]
    await store.logs.append(data["id"], 1, lines)
    plain = await api.get(f"{E}/{data['id']}/logs")
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert plain.text == ("2023-11-14T22:13:20.000000Z stdout importing\n2023-11-14T22:13:20.500000Z stderr a b\n")
    rich = await api.get(f"{E}/{data['id']}/logs", headers={"accept": "application/x-ndjson"})
    assert rich.headers["content-type"].startswith("application/x-ndjson")
    assert '"attempt":1,"time":"2023-11-14T22:13:20.500000Z","stream":"stderr"' in rich.text.splitlines()[1]


# Steering


async def test_cancel_from_created(api: httpx.AsyncClient) -> None:
    data = await put(api)
    answer = await api.post(f"{E}/{data['id']}/cancellation", json={"force": False})
    assert (answer.status_code, answer.json()["data"]["state"]) == (200, "cancelled")
    again = await api.post(f"{E}/{data['id']}/cancellation", json={"force": True})
    assert again.status_code == 409
    assert again.json() == {"error": "conflict", "message": 'cannot cancel execution in "cancelled" state'}


@pytest.mark.parametrize("force", [True, {"force": True}])
async def test_force_aborts_a_running_one(api: httpx.AsyncClient, stand_in: Any, force: Any) -> None:
    data = await put(api)
    await stand_in.start("hello")
    path = f"{E}/{data['id']}/cancellation"
    refused = await api.post(path, json={"force": {}})
    assert (refused.status_code, refused.json()["error"]) == (409, "conflict")
    assert refused.json()["message"] == 'cannot cancel execution in "started" state'
    answer = await api.post(path, json={"force": force})
    assert (answer.status_code, answer.json()["data"]["state"]) == (200, "aborting")
    again = await api.post(path, json={"force": force})
    assert again.status_code == 202
    assert again.json()["message"]


async def test_reschedule(api: httpx.AsyncClient, stand_in: Any) -> None:
    data = await put(api, schedule_for="2099-01-01T00:00:00Z")
    path = f"{E}/{data['id']}/schedule"
    later = await api.patch(path, json={"schedule_for": "2099-02-01T00:00:00.000Z"})
    assert later.json()["data"]["scheduled_at"] == "2099-02-01T00:00:00.000000Z"
    now = await api.patch(path)
    assert (now.status_code, now.json()["data"]["scheduled_at"] < iso(5)) == (200, True)
    await stand_in.start("hello")
    refused = await api.patch(path, json={})
    assert refused.status_code == 409
    assert '"started" state' in refused.json()["message"]


async def test_a_rerun_is_a_new_execution(api: httpx.AsyncClient, stand_in: Any) -> None:
    data = await put(api, function_arguments=[7], metadata={"user": "7"})
    await stand_in.fail("hello", "no")
    answer = await api.post(f"{E}/{data['id']}/reruns", json={})
    fresh = answer.json()["data"]
    assert (answer.status_code, fresh["state"], fresh["metadata"]) == (200, "created", {"user": "7"})
    assert fresh["id"] != data["id"] == fresh["rerun_of"]
    assert (await api.get(f"{E}/{fresh['id']}/arguments")).json() == [7]


# Lists


async def test_a_list_pages_both_ways(api: httpx.AsyncClient) -> None:
    ids = [(await put(api))["id"] for _ in range(5)][::-1]
    first = (await api.post(E, json={"page": {"first": 2}})).json()
    assert [row["id"] for row in first["data"]] == ids[:2]
    info = first["page_info"]
    assert (info["has_next_page"], info["has_prev_page"]) == (True, False)
    assert await listed(api, page={"first": 2, "after": info["end_cursor"]}) == ids[2:4]
    last = (await api.post(E, json={"page": {"last": 2}})).json()
    assert [row["id"] for row in last["data"]] == ids[3:]
    info = last["page_info"]
    assert (info["has_next_page"], info["has_prev_page"]) == (False, True)
    assert await listed(api, page={"last": 2, "before": info["start_cursor"]}) == ids[1:3]
    assert await listed(api, page={"before": info["start_cursor"]}) == ids[:3]


async def test_a_get_takes_the_same_body(api: httpx.AsyncClient) -> None:
    ids = [(await put(api))["id"] for _ in range(2)][::-1]
    answer = await api.request("GET", E, json={"page": {"first": 1}})
    assert [row["id"] for row in answer.json()["data"]] == ids[:1]
    assert [row["id"] for row in (await api.get(E)).json()["data"]] == ids


async def test_an_empty_list(api: httpx.AsyncClient) -> None:
    answer = await api.post(E)
    info = {"has_next_page": False, "has_prev_page": False, "start_cursor": None, "end_cursor": None}
    assert answer.json() == {"data": [], "page_info": info}


async def test_every_filter_narrows(api: httpx.AsyncClient, store: Store, stand_in: Any) -> None:
    failed = await put(api, metadata={"user": "7", "plan": "pro"})
    await stand_in.fail("hello", "no")
    done = await put(api, metadata={"user": "8", "plan": "pro"})
    await stand_in.succeed("hello", 1)
    later = await put(api, function_name="add", schedule_for="2099-01-01T00:00:00Z")
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"states": ["failed"]}, [failed["id"]]),
        ({"states": ["failed", "succeed"]}, [done["id"], failed["id"]]),
        ({"states": []}, [later["id"], done["id"], failed["id"]]),
        ({"function_ids": [later["function_id"]]}, [later["id"]]),
        ({"error_codes": ["ER0003"]}, [failed["id"]]),
        ({"error_codes": ["ER0001"]}, []),
        ({"scheduled_at": {"from": "2098-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}}, [later["id"]]),
        ({"scheduled_at": {"to": iso(60)}}, [done["id"], failed["id"]]),
        ({"started_at": {"from": iso(-60), "to": iso(60)}}, [done["id"], failed["id"]]),
        ({"executed_by": "api"}, [later["id"], done["id"], failed["id"]]),
        ({"executed_by": "cron"}, []),
        ({"metadata": [{"key": "user", "values": ["7", "9"]}]}, [failed["id"]]),
        ({"metadata": [{"key": "plan", "values": ["pro"]}, {"key": "user", "values": ["8"]}]}, [done["id"]]),
        (
            {"metadata": [{"key": "user", "values": ["7"]}, {"key": "user", "values": ["8"]}]},
            [done["id"], failed["id"]],
        ),
        ({"states": ["failed"], "metadata": [{"key": "user", "values": ["8"]}]}, []),
    ]
    for filters, expected in cases:
        assert await listed(api, filters=filters) == expected, filters


async def test_attempts_are_shaped_as_executions(api: httpx.AsyncClient, stand_in: Any) -> None:
    data = await put(api)
    path = f"{E}/{data['id']}/attempts"
    assert (await api.post(path, json={})).json()["data"] == []
    await stand_in.fail("hello", "no")
    (row,) = (await api.get(path)).json()["data"]
    assert (row["id"], row["state"], row["attempt"], row["error_code"]) == (data["id"], "failed", 1, "ER0003")
    assert row["function_name"] == "hello"
    for filters, count in (
        ({"states": ["failed"]}, 1),
        ({"states": ["succeed"]}, 0),
        ({"error_codes": ["ER0003"]}, 1),
        ({"started_at": {"to": iso(-60)}}, 0),
        ({"executed_by": "api", "function_ids": [data["function_id"]]}, 1),
        ({"metadata": [{"key": "user", "values": ["7"]}]}, 0),
    ):
        answer = await api.post(path, json={"filters": filters})
        assert len(answer.json()["data"]) == count, filters
