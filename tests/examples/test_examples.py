"""Every example as an environment of one server: built, and its functions called as a user calls them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.examples.measure import Report, Row, dependency_sets
from tests.examples.projects import EXAMPLES, OUTSIDE, Call, Example, environment_file, prepare, read_examples
from tests.examples.report import as_text
from tests.support import Server, missing

pytestmark = pytest.mark.slow

READ = read_examples()
CALLS: list[tuple[str, str, list[Any], Any]] = [
    ("hello-pip", "hello", [], "Hello, world!"),
    ("hello-pip", "add", [1, 2.5], 3.5),
    ("shop-uv", "price_of", ["Teapot", 2], 49.0),
    ("shop-uv", "yearly_report", [2026, 0], {"year": 2026, "months": 12}),
    ("shop-uv", "send_mail", ["a@example.org", "hi", 1], {"to": "a@example.org", "subject": "hi", "attempt": 2}),
    ("aliases", "send_invoice", ["Ada", 1], {"to": "ada@example.org", "amount": 1}),
    ("aliases", "mail_bill", ["Ada", 2], {"to": "ada@example.org", "amount": 2}),
    ("uv-workspace-worker", "revalue_stock", [], 540.0),
]
"""Beside the call of each README, which the measurement makes."""
FAULTS = [
    ("shop-uv", "price_of", ["Elephant"], "ValueError", "'Elephant'"),
    ("monorepo-pip-shipping", "postage", [[40_000]], "ValueError", "too heavy"),
    ("litestar", "report_visits", [[{"page": 1, "seconds": 2}]], "ValidationError", "`$[0].page`"),
]


def test_every_folder_is_in_the_table_and_has_a_readme() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {*READ, *OUTSIDE}
    assert [name for name in folders if not (EXAMPLES / name / "README.md").is_file()] == []


@pytest.mark.parametrize("example", READ.values(), ids=READ)
def test_its_readme_has_an_environment_file_and_a_call_for_it(example: Example) -> None:
    for name, text in example.environments.items():
        asked = tomllib.loads(text)
        assert asked["directory"].startswith(f"examples/{example.name}")
        assert example.call(name)


def test_no_lock_that_names_an_index_is_kept() -> None:
    locks = [path for path in EXAMPLES.rglob("*") if path.suffix in (".lock", ".txt") or path.name == "Pipfile"]
    kept = [path for path in locks if path.name not in ("uv.lock", "Pipfile.lock")]
    assert [str(path) for path in kept if re.search(r"\bhttps?://", path.read_text())] == []


def test_a_fault_is_told_below_the_table() -> None:
    good, bad = Row("good", "uv.lock", cold=1.0), Row("bad", "pdm.lock", fault="the build failed: no pdm\n    its log")
    told = as_text(Report([good, bad])).partition("1 of 2 environments")[2]
    assert "FAILED bad: the build failed: no pdm\n    its log" in told
    assert "FAILED good" not in told


def test_what_the_machine_lacks_is_no_fault() -> None:
    report = Report([Row("good", "uv.lock"), Row("old", "nothing", fault="the build failed", lacks="Python 3.12")])
    assert report.faults == []
    told = as_text(report).partition("1 of 2 environments")[2]
    assert "SKIPPED old: needs Python 3.12" in told and "FAILED" not in told


def test_all_are_built_and_run(report: Report, record_property: Callable[[str, object], None]) -> None:
    record_property("figures", as_text(report))
    assert {row.environment: row.fault for row in report.faults} == {}
    assert len(report.rows) >= 25


def test_a_commit_that_leaves_the_lock_alone_is_live_within_a_second(report: Report) -> None:
    assert report.median_live <= 1.0


def test_ten_environments_with_the_same_lock_have_one_set_of_dependencies(server: Server, tmp_path: Path) -> None:
    before = dependency_sets(server.home)
    example = READ["shop-uv"]
    repository = prepare(example, tmp_path)
    # A lock that no other environment has.
    project = repository.path / "examples" / example.name
    (project / "uv.lock").write_text((project / "uv.lock").read_text() + "# of ten environments\n")
    repository.commit("A lock of their own", {})
    names = [f"same-lock-{number}" for number in range(10)]
    for name in names:
        server.add(name, environment_file(example.environments["shop-uv"], repository))
    builds = [server.until_built(name) for name in names]
    assert [build["error"] for build in builds] == [None] * 10
    assert [server.client(name).call("price_of", "cup", 2) for name in names] == [("succeed", 12.0)] * 10
    assert len(dependency_sets(server.home) - before) == 1


@pytest.mark.parametrize("call", [call for example in READ.values() for call in example.calls], ids=str)
def test_its_readme_can_be_typed(server: Server, report: Report, call: Call) -> None:
    if call.environment in report.skipped:
        missing(report.skipped[call.environment])
    done = subprocess.run(
        ["sh", "-c", call.line],
        env={**server.environ, "DEFERLITE_HOME": str(server.home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == call.expected


@pytest.mark.parametrize(("name", "function", "arguments", "expected"), CALLS)
def test_its_other_functions_run(server: Server, name: str, function: str, arguments: list[Any], expected: Any) -> None:
    assert server.client(name).call(function, *arguments) == ("succeed", expected)


@pytest.mark.parametrize(("name", "function", "arguments", "error", "words"), FAULTS)
def test_a_fault_of_a_function_is_its_result(
    server: Server, name: str, function: str, arguments: list[Any], error: str, words: str
) -> None:
    state, got = server.client(name).call(function, *arguments)
    assert (state, got["name"]) == ("failed", error)
    assert words in got["message"]


@pytest.mark.parametrize(
    ("name", "function", "arguments", "expected"),
    [
        ("shop-uv", "place_order", ["ada@example.org", {"tray": 2}], ["price_of", "send_mail"]),
        ("workflow", "close_month", [{"Ada": [1], "Bob": [2]}], ["balance"] * 2 + ["mail_statement"] * 2),
    ],
)
def test_a_workflow_has_its_children(
    server: Server, name: str, function: str, arguments: list[Any], expected: list[str]
) -> None:
    client = server.client(name)
    parent = client.enqueue(function, *arguments)
    assert client.wait(parent)[0] == "succeed"
    with server.admin() as admin:
        children = admin.get(f"/executions/{parent}/children").json()["data"]
    assert sorted(child["function_name"] for child in children) == expected


def test_cron_functions_are_planned(server: Server) -> None:
    with server.admin() as admin:
        functions = {one["name"]: one for one in admin.get("/environments/shop-uv/functions").json()["data"]}
    assert functions["daily_report"]["next_cron_at"] is not None
    assert functions["send_mail"]["next_cron_at"] is None
