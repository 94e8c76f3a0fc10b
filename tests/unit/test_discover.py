"""Finding functions in projects of every layout; discovery runs as it does in a build, without the box."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.discovering import JOB, Discovery, job, names


@pytest.fixture
def discover(tmp_path: Path) -> Discovery:
    return Discovery(tmp_path)


LAYOUTS = {
    "a script": {"jobs.py": JOB},
    "a package": {"shop/__init__.py": "", "shop/mail/__init__.py": "", "shop/mail/jobs.py": JOB},
    "src": {"src/shop/__init__.py": "", "src/shop/jobs.py": "from shop import other\n" + JOB, "src/shop/other.py": ""},
    "a namespace": {"company/shop/jobs.py": "from company.shop import other\n" + JOB, "company/shop/other.py": ""},
    "a defer folder": {"defer/jobs.py": JOB},
    "a nested defer folder": {"shop/defer/deep/send-mail.py": JOB},
    "a package's __init__": {"shop/__init__.py": JOB},
    "src as a namespace": {
        "src/company/shop/jobs.py": "from company.shop import other\n" + JOB,
        "src/company/shop/other.py": "",
    },
    "src as a package": {"src/__init__.py": "", "src/jobs.py": "from src import other\n" + JOB, "src/other.py": ""},
    "src as a package without an __init__": {"src/jobs.py": "from src.other import x\n" + JOB, "src/other.py": "x = 1"},
    "several packages": {
        "web/__init__.py": "import jobs.mail",
        "jobs/__init__.py": "",
        "jobs/mail.py": "import models.user\n" + JOB,
        "models/user.py": "",
    },
    "relative imports": {
        "shop/jobs.py": "from . import other\nfrom .deep import more\n" + JOB,
        "shop/other.py": "",
        "shop/deep/more.py": "",
    },
    "a folder that is no identifier": {"my-app/jobs.py": "import helper\n" + JOB, "my-app/helper.py": ""},
    "a package in such a folder": {
        "apps/my-app/shop/__init__.py": "",
        "apps/my-app/shop/jobs.py": "import shop\n" + JOB,
    },
    "a folder with dots": {"v1.2/jobs.py": JOB},
    "a module of Python's name in a package": {
        "shop/queue.py": JOB,
        "shop/types.py": "",
        "shop/__init__.py": "import queue\n",
    },
    "such a module in src": {"src/queue.py": JOB},
    "a script of the same name": {"jobs.py": "", "src/jobs.py": JOB},
    "a class": {
        "jobs.py": "from deferlite import defer\nclass Jobs:\n    @staticmethod\n    @defer\n    def {name}(): ...\n"
    },
    "a folder that is called build": {"shop/__init__.py": "", "shop/build/__init__.py": "", "shop/build/jobs.py": JOB},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(discover: Discovery, layout: str) -> None:
    answer = discover({name: text.format(name="job") for name, text in LAYOUTS[layout].items()})
    assert names(answer) == ["job"]
    assert answer["functions"][0]["module"] in answer["modules"]


@pytest.mark.parametrize(
    "marked",
    [
        "import deferlite\n@deferlite.defer\ndef job(): ...\n",
        "import deferlite as d\njob = d.defer(len, name='job')\n",
        "from deferlite import *\n@defer\ndef job(): ...\n",
        "from deferlite import defer as later\n@later(retry=3)\ndef job(): ...\n",
        "def main():\n    from deferlite import defer\n    return defer\n@main()\ndef job(): ...\n",
    ],
)
def test_however_it_is_marked(discover: Discovery, marked: str) -> None:
    assert names(discover({"jobs.py": marked})) == ["job"]


def test_what_is_told_of_a_function(discover: Discovery) -> None:
    source = '''
from __future__ import annotations
from deferlite import defer

@defer(retry=5, concurrency=2, max_duration="10m")
def job(company: str, /, contacts: list[dict] = [], *rest: int, limit: int = 3, **more) -> int:
    """Imports contacts.

    And more.
    """

@defer.cron("0 8 * * *", timezone="Europe/Paris")
async def daily() -> None: ...
'''
    daily, job = discover({"shop/jobs.py": source})["functions"]
    assert (job["file"], job["line"], job["doc"]) == ("shop/jobs.py", 5, "Imports contacts.")
    assert (job["is_async"], daily["is_async"]) == (False, True)
    assert [parameter["kind"] for parameter in job["parameters"]] == [
        "positional_only",
        "positional_or_keyword",
        "var_positional",
        "keyword_only",
        "var_keyword",
    ]
    assert job["parameters"][1] == {
        "name": "contacts",
        "kind": "positional_or_keyword",
        "annotation": "list[dict]",
        "default": "[]",
    }
    assert job["metadata"]["retry_policy"]["max_attempts"] == 5
    assert (daily["metadata"]["cron"], daily["metadata"]["timezone"]) == ("0 8 * * *", "Europe/Paris")


def test_a_function_imported_elsewhere_counts_once_at_home(discover: Discovery) -> None:
    answer = discover(
        {
            "shop/__init__.py": "from shop.zjobs import job\n",
            "shop/zjobs.py": job(),
            "shop/another.py": "from deferlite import defer\nfrom shop.zjobs import job as sent\n",
        }
    )
    assert [(one["name"], one["module"], one["attribute"]) for one in answer["functions"]] == [
        ("job", "shop.zjobs", "job")
    ]
    assert answer["modules"] == ["shop.zjobs"]


def test_what_is_left_alone(discover: Discovery) -> None:
    trap = job("trap") + "raise SystemExit('imported')\n"
    left_alone = [
        "tests/jobs.py",
        "shop/tests/jobs.py",
        "test_jobs.py",
        "jobs_test.py",
        "conftest.py",
        "shop/migrations/0001.py",
        ".hidden/jobs.py",
        "node_modules/a/jobs.py",
        "setup.py",
        "build/lib/jobs.py",
        "dist/jobs.py",
        "my-venv/lib/jobs.py",
        "shop/__main__.py",
    ]
    files = {"jobs.py": job(), "my-venv/pyvenv.cfg": "", **dict.fromkeys(left_alone, trap)}
    assert names(discover(files)) == ["job"]


def test_modules_that_only_enqueue_are_not_imported(discover: Discovery) -> None:
    web = "import deferlite\nfrom deferlite import await_result\nraise SystemExit('it would serve')\n"
    assert names(discover({"jobs.py": job(), "web.py": web})) == ["job"]


def test_defer_by_way_of_the_project(discover: Discovery) -> None:
    files = {
        "shop/__init__.py": "",
        "shop/queue.py": "from deferlite import defer\n",
        "shop/one.py": "from shop.queue import defer\n@defer\ndef one(): ...\n",
        "shop/two.py": "from .queue import defer\n@defer\ndef two(): ...\n",
        "shop/twisted.py": "from twisted.internet import defer\n",
        "shop/template.py": "{{ defer }}\n{% if %}\n",
    }
    assert names(discover(files)) == ["one", "two"]


DECORATORS = {
    "a function": "import deferlite\ndef task(fn):\n    return deferlite.defer(retry=3)(fn)\n",
    "options": "from deferlite import defer\ntask = defer(retry=3)\n",
    "a partial": "import functools\nfrom deferlite import defer as later\ntask = functools.partial(later, retry=3)\n",
    "another name": "from deferlite import defer\ntask = defer\n",
}


@pytest.mark.parametrize("decorator", DECORATORS)
def test_decorators_of_the_projects_own(discover: Discovery, decorator: str) -> None:
    files = {
        "shop/queue.py": DECORATORS[decorator] + "@task\ndef here(): ...\n",
        "shop/there.py": "from shop.queue import task\n@task\ndef there(): ...\n",
        "shop/web.py": "from shop.queue import here\nraise SystemExit('it would serve')\n",
        "shop/celery.py": "from celery import task\n@task\ndef other(): ...\n",
    }
    assert names(discover(files)) == ["here", "there"]


def test_a_main_guard_does_not_run(discover: Discovery) -> None:
    assert names(discover({"jobs.py": job() + "if __name__ == '__main__':\n    1 / 0\n"})) == ["job"]


def test_functions_named_in_the_file_replace_detection(discover: Discovery) -> None:
    files = {
        "shop/__init__.py": "",
        "shop/jobs.py": job("one"),
        "shop/tests/more.py": job("two"),
        "other/jobs.py": job("three"),
    }
    assert names(discover(files, ["shop.jobs"])) == ["one"]
    assert names(discover(files, ["shop"])) == ["one"]
    assert names(discover(files, ["shop/tests"])) == ["two"]
    assert names(discover(files, ["other/jobs.py", "shop.jobs"])) == ["one", "three"]
    there = "not in the project; there are, for example: "
    assert f"names nowhere, which is {there}" in discover(files, ["nowhere"])["error"]
    assert "no/where" in discover(files, ["no/where"])["error"]


def test_django_is_set_up_first(discover: Discovery) -> None:
    files = {
        "site/manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n",
        "site/shop/__init__.py": "",
        "site/shop/settings.py": "",
        "site/shop/tasks.py": "import django\nassert django.ready\n" + job(),
        "site/django.py": "import os\nready = False\ndef setup():\n    global ready\n"
        "    ready = os.environ['DJANGO_SETTINGS_MODULE'] == 'shop.settings'\n",
    }
    answer = discover(files)
    assert names(answer) == ["job"]
    assert (answer["django_settings"], answer["functions"][0]["module"]) == ("shop.settings", "shop.tasks")
    assert answer["import_paths"][0] == "site"


def test_output_of_the_project_stays_its_own(discover: Discovery) -> None:
    answer = discover({"jobs.py": 'print(\'{"error": "fake"}\')\n' + job()})
    assert names(answer) == ["job"]
    assert "fake" in answer["output"]


def test_threads_and_exit_handlers_do_not_hold_it_up(discover: Discovery) -> None:
    lingering = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    assert names(discover({"jobs.py": lingering + job()})) == ["job"]


WRONG = {
    "an import error": (
        {
            "shop/jobs.py": "from deferlite import defer\nimport shop.helper\n",
            "shop/helper.py": "\nimport nosuchthing\n",
        },
        ["cannot import shop.jobs", "nosuchthing", "shop/helper.py, line 2", "dependencies"],
    ),
    "an error while importing": (
        {"jobs.py": "from deferlite import defer\n\n1 / 0\n"},
        ["cannot import jobs", "ZeroDivisionError", "jobs.py, line 3"],
    ),
    "a syntax error": ({"jobs.py": "from deferlite import defer\ndef job(:\n"}, ["SyntaxError", "jobs.py, line 2"]),
    "a syntax error in what is imported": (
        {"jobs.py": "from deferlite import defer\nimport helper\n", "helper.py": "\n\ndef x(:\n"},
        ["cannot import jobs", "SyntaxError", "helper.py, line 3"],
    ),
    "an exit": ({"jobs.py": "from deferlite import defer\nraise SystemExit(3)\n"}, ["SystemExit", "__main__"]),
    "two of one name": (
        {"a.py": job(), "b.py": "\n" + job()},
        ['two background functions are named "job"', "a.py, line 3", "b.py, line 4"],
    ),
    "no functions": ({"jobs.py": "print('hello')\n"}, ["no background functions", "1 Python file (", "@defer"]),
    "a Node project": ({"package.json": "{}", "defer/a.js": ""}, ["Node projects are not built yet"]),
    "an empty project": ({"README": ""}, ["no background functions", "0 Python files"]),
    "no functions in a module": ({"jobs.py": "from deferlite import defer\n"}, ["no background functions", "jobs"]),
    "a lambda": ({"jobs.py": "from deferlite import defer\njob = defer(lambda: 1)\n"}, ["name", "jobs.py, line 2"]),
    "a wrong option": (
        {"jobs.py": "from deferlite import defer\n@defer(concurrency=0)\ndef job(): ...\n"},
        ["concurrency", "jobs.py, line 2"],
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_named(discover: Discovery, fault: str) -> None:
    files, expected = WRONG[fault]
    error = discover(files)["error"]
    assert [part for part in expected if part not in error] == [], error
