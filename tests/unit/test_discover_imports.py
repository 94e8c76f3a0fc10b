"""What importing a project may do to a build: serve, wait for ever, fail in every way; each is told with its place."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tests.discovering import Discovery, job, names

DEFER = "from deferlite import defer\n"
GUARD = 'under `if __name__ == "__main__":`'
UVICORN = "import uvicorn\nasync def app(scope, receive, send): ...\n"


@pytest.fixture
def discover(tmp_path: Path) -> Discovery:
    return Discovery(tmp_path)


SERVERS = {
    "uvicorn": f"{UVICORN}uvicorn.run(app, port=8123)\n",
    "uvicorn that reloads": f"{UVICORN}uvicorn.run('jobs:app', port=8123, reload=True)\n",
    "http.server": "\nfrom http.server import *\nHTTPServer(('', 8123), BaseHTTPRequestHandler).serve_forever()\n",
    "asyncio": "import asyncio\nasync def main(): await asyncio.start_server(0, '::1', 8123)\nasyncio.run(main())\n",
    "one that catches": "import socket\ntry:\n  while 1: socket.create_server(('', 8123))\nexcept: pass\n",
    "a thread": "import socket, threading\nt = threading.Thread(target=socket.create_server, args=[('', 8123)])\n"
    "t.start() or t.join()\n",
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_fails_the_build_at_once(discover: Discovery, server: str) -> None:
    began = time.monotonic()
    error = discover({"jobs.py": SERVERS[server] + job()})["error"]
    assert "cannot import jobs: it starts a server on port 8123 (jobs.py, line 3)" in error
    assert GUARD in error
    assert time.monotonic() - began < 10


def test_a_server_that_a_helper_starts_is_named_where_the_module_calls_it(discover: Discovery) -> None:
    helper = "import socket\ndef serve():\n    socket.create_server(('127.0.0.1', 8123))\n"
    files = {"helper.py": helper, "web.py": "\nimport helper\n\nhelper.serve()\n", "jobs.py": f"import web\n{job()}"}
    assert "port 8123 (web.py, line 4)" in discover(files)["error"]


def test_a_server_in_a_main_guard_and_free_ports_do_no_harm(discover: Discovery) -> None:
    source = f"{UVICORN}import socket\nsocket.create_server(('', 0)).close()\n{job()}"
    assert names(discover({"jobs.py": f"{source}if __name__ == '__main__':\n    uvicorn.run(app)\n"})) == ["job"]


WAITS = {
    "sleeping": "import time\n\nwhile True: time.sleep(0.01)\n",
    "a queue": "import queue\n\nqueue.Queue().get()\n",
    "a busy loop": "\n\nwhile True: pass\n",
    "a thread joined": "import threading, time\n\nthreading.Thread(target=time.sleep, args=[60]).start() or "
    "threading.enumerate()[-1].join()\n",
    "asyncio": "import asyncio\n\nasyncio.run(asyncio.sleep(60))\n",
    "a socket of its own": "import socket\n\nsocket.create_server(('', 0)).accept()\n",
}


@pytest.mark.parametrize("wait", WAITS)
def test_an_import_that_does_not_end(discover: Discovery, wait: str) -> None:
    error = discover({"jobs.py": WAITS[wait] + job()}, patience=0.6)["error"]
    assert error.startswith("cannot import jobs: for 0.6 seconds it has stood (jobs.py, line 3); what waits"), error
    assert GUARD in error


def test_an_import_that_goes_on_is_left_to(discover: Discovery) -> None:
    files = {f"shop/part{n}.py": "import time\ntime.sleep(0.3)\n" for n in range(5)}
    source = "".join(f"import shop.part{n}\n" for n in range(5))
    assert names(discover({**files, "jobs.py": source + job()}, patience=0.9)) == ["job"]


def test_input_has_ended(discover: Discovery) -> None:
    error = discover({"jobs.py": f"{DEFER}input('name? ')\n"})["error"]
    assert "EOFError" in error and "jobs.py, line 2" in error and "must not ask" in error and GUARD in error


def test_a_forked_process_may_serve(discover: Discovery) -> None:
    fork = "import os, socket\nif os.fork() == 0:\n    socket.socket().bind(('127.0.0.1', {port}))\n    os._exit(0)\n"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert names(discover({"jobs.py": fork.format(port=port) + "os.wait()\n" + job()})) == ["job"]


MISSING = {
    "nothing at all": ({}, "import nosuchthing", "the package that has nosuchthing to the project's dependencies, in"),
    "requirements.txt": ({"requirements.txt": ""}, "import nosuchthing.deep", "dependencies, in requirements.txt"),
    "uv.lock": ({"uv.lock": "", "pyproject.toml": "", "setup.py": ""}, "import nosuchthing", "in pyproject.toml"),
    "requirements.in": ({"requirements.in": "", "requirements.txt": ""}, "import nosuchthing", "in requirements.in"),
    "another name": ({"Pipfile": ""}, "import sklearn.svm", "add scikit-learn (it brings sklearn) to the project's"),
    "a script's own": ({"report.py": "# /// script\n# ///\n"}, "import nosuchthing", "dependencies, in report.py"),
    "a module of the project": ({"shop/__init__.py": ""}, "import shop.more", "shop is there, shop.more is not"),
    "another folder's": ({"tools/helper.py": ""}, "import helper", "tools/helper.py is there, but its folder is none"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_and_where_it_belongs(discover: Discovery, case: str) -> None:
    files, source, cure = MISSING[case]
    error = discover({**files, "jobs.py": f"{DEFER}\n{source}\n"})["error"]
    assert error.startswith("cannot import jobs: ModuleNotFoundError: No module named")
    assert "(jobs.py, line 3)" in error and cure in error, error


FAILURES = {
    "importing each other": (
        {"jobs.py": f"{DEFER}import a\n", "a.py": "\nfrom b import b\na = 1\n", "b.py": "from a import a\nb = 1\n"},
        ["ImportError", "(b.py, line 1)", "modules import each other: move one of the imports"],
    ),
    "a newer Python's": (
        {"jobs.py": f"{DEFER}from itertools import nosuchtool\n"},
        ["ImportError", "(jobs.py, line 2); this is Python 3.", "[build] python"],
    ),
    "a distribution that is not installed": (
        {"jobs.py": f"{DEFER}from importlib.metadata import version\nversion('nosuchthing')\n"},
        ["PackageNotFoundError", "(jobs.py, line 3); nothing that is installed has that name", "pyproject.toml"],
    ),
    "a variable that is not set": (
        {"jobs.py": f"{DEFER}import os\nos.environ['SHOP_KEY']\n"},
        ["KeyError: 'SHOP_KEY' (jobs.py, line 3); set that variable under [env] in the environment file"],
    ),
    "a relative import in a root": (
        {"jobs.py": f"{DEFER}from .other import x\n", "other.py": ""},
        ["relative import", "jobs.py, line 2", "import in full"],
    ),
    "a BaseException": (
        {"jobs.py": f"{DEFER}class Stop(BaseException): ...\nraise Stop('enough')\n"},
        ["cannot import jobs: Stop: enough (jobs.py, line 3)"],
    ),
    "a KeyboardInterrupt": ({"jobs.py": f"{DEFER}raise KeyboardInterrupt\n"}, ["KeyboardInterrupt (jobs.py, line 2)"]),
    "an error that cannot be shown": (
        {"jobs.py": f"{DEFER}class Bad(Exception):\n  def __str__(self): 1 / 0\nraise Bad\n"},
        ["Bad: (it cannot say what is wrong: its __str__ fails) (jobs.py, line 4)"],
    ),
    "an exit with words": ({"jobs.py": f"{DEFER}import sys\nsys.exit('usage: …')\n"}, ["SystemExit: usage: …", GUARD]),
    "recursion": ({"jobs.py": f"{DEFER}def f(): f()\nf()\n"}, ["RecursionError", "(jobs.py, line 2)"]),
    "an import that is caught elsewhere": (
        {"jobs.py": f"{DEFER}try:\n    import nosuchthing\nexcept ImportError:\n    raise RuntimeError('no luck')\n"},
        ["RuntimeError: no luck (jobs.py, line 5)"],
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures(discover: Discovery, failure: str) -> None:
    files, expected = FAILURES[failure]
    error = discover(files)["error"]
    assert [part for part in expected if part not in error] == [], error


def test_the_log_shows_the_traceback_of_the_users_files_alone(discover: Discovery) -> None:
    output = discover({"shop/jobs.py": f"{DEFER}import shop.other\n", "shop/other.py": "\n1 / 0\n"})["output"]
    lines = [line.strip() for line in output.splitlines()]
    assert lines[0] == "Traceback (most recent call last):"
    assert [line.partition(", in")[0].rpartition(os.sep)[2] for line in lines if line.startswith("File")] == [
        'jobs.py", line 2',
        'other.py", line 2',
    ]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_what_the_modules_see_of_the_process(discover: Discovery) -> None:
    source = (
        "import sys\nassert sys.argv == ['deferlite'] and not hasattr(sys.modules['__main__'], '__file__')\n"
        f"assert not any('runner' in path for path in sys.path), sys.path\n{job()}"
        "import deferlite\nassert deferlite.__file__.endswith('deferlite/__init__.py')\n"
    )
    assert names(discover({"jobs.py": source})) == ["job"]
