"""Every example as an environment of one server: built, and its functions called as a user calls them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uv

from tests.support import Client, Repository, Server

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENTS = {
    "hello-pip": "",
    "shop-uv": '[env]\nMAIL_SERVER = "mail.example.org"\n',
    "plain-script": '[build]\npython = ">=3.10"\n',
    "defer-folder": "",
    "django-site": '[env]\nSECRET_KEY = "of this environment"\n',
}
CALLS: list[tuple[str, str, list[Any], Any]] = [
    ("hello-pip", "hello", [], "Hello, world!"),
    ("hello-pip", "hello", ["Ada"], "Hello, Ada!"),
    ("hello-pip", "add", [1, 2.5], 3.5),
    ("shop-uv", "price_of", ["Teapot", 2], 49.0),
    ("shop-uv", "yearly_report", [2026, 0], {"year": 2026, "months": 12}),
    (
        "shop-uv",
        "place_order",
        ["ada@example.org", {"teapot": 1, "cup": 4}],
        {"customer": "ada@example.org", "lines": {"teapot": 24.5, "cup": 24.0}, "total": 48.5},
    ),
    ("shop-uv", "send_mail", ["a@example.org", "hi", 1], {"to": "a@example.org", "subject": "hi", "attempt": 2}),
    ("plain-script", "checksum", ["hello", "md5"], "5d41402abc4b2a76b9719d911017c592"),
    ("defer-folder", "thumbnail", [1600, 900], [200, 112]),
    ("django-site", "count_products", [["teapot", "cup"]], {"count": 2, "app": "Shop"}),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("examples")
    skipped = shutil.ignore_patterns("__pycache__", "uv.lock", ".venv", "misbehaving")
    shutil.copytree(EXAMPLES, folder / "repository" / "examples", ignore=skipped)
    # A lock names the package index of whoever made it, so none is kept here.
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=folder / "repository/examples/shop-uv", check=True)
    (folder / "repository/examples/shop-uv/.gitignore").unlink()
    repository = Repository(folder / "repository", {})
    with Server(folder / "home") as running:
        for name, more in ENVIRONMENTS.items():
            running.add(name, f'repository = "{repository.path}"\ndirectory = "examples/{name}"\n{more}')
        yield running


@contextmanager
def client(server: Server, name: str) -> Iterator[Client]:
    server.until_built(name)
    one = server.client(name)
    with one.http:
        yield one


def test_every_example_has_a_readme_and_a_test() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders - {"misbehaving"} == set(ENVIRONMENTS)
    assert [name for name in folders if not (EXAMPLES / name / "README.md").is_file()] == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_is_built(server: Server, name: str) -> None:
    build = server.until_built(name)
    assert (build["state"], build["error"]) == ("succeed", None)


@pytest.mark.parametrize(("name", "function", "arguments", "expected"), CALLS)
def test_its_functions_run(server: Server, name: str, function: str, arguments: list[Any], expected: Any) -> None:
    with client(server, name) as public:
        assert public.call(function, *arguments) == ("succeed", expected)


def test_a_fault_of_a_function_is_its_result(server: Server) -> None:
    with client(server, "shop-uv") as public:
        state, error = public.call("price_of", "Elephant")
    assert (state, error["name"]) == ("failed", "ValueError")
    assert "'Elephant'" in error["message"]


def test_a_workflow_has_its_children(server: Server) -> None:
    with client(server, "shop-uv") as public:
        order = public.enqueue("place_order", "ada@example.org", {"tray": 2})
        assert public.wait(order)[0] == "succeed"
    with server.admin() as admin:
        children = admin.get(f"/executions/{order}/children").json()["data"]
    assert sorted(child["function_name"] for child in children) == ["price_of", "send_mail"]


def test_cron_functions_are_planned(server: Server) -> None:
    server.until_built("shop-uv")
    with server.admin() as admin:
        functions = {one["name"]: one for one in admin.get("/environments/shop-uv/functions").json()["data"]}
    assert functions["daily_report"]["next_cron_at"] is not None
    assert functions["send_mail"]["next_cron_at"] is None
