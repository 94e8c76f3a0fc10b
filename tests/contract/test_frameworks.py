"""Django, Flask, FastAPI, Litestar and Starlette, installed: their functions are found, and run by the real runner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uv

from deferlite.model.execution import Ending
from tests.contract.benches import REPOSITORY, MakeBench, Plans
from tests.discovering import Discovery, job, modules, names
from tests.support import clean_environ

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
FRAMEWORKS = ("django", "flask", "fastapi", "litestar", "uvicorn", "gunicorn")


@pytest.fixture(scope="session")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with all of them; its interpreter."""
    folder = tmp_path_factory.mktemp("frameworks") / "venv"
    python = folder / "bin" / "python"
    for command in (["venv", "--python", sys.executable, str(folder)], ["pip", "install", "--python", str(python)]):
        packages = FRAMEWORKS if command[0] == "pip" else ()
        subprocess.run([uv.find_uv_bin(), *command, "--quiet", *packages], env=clean_environ(), check=True)
    return python


@pytest.fixture
def discover(tmp_path: Path, frameworks: Path) -> Discovery:
    return Discovery(tmp_path, str(frameworks))


SETTINGS = """
import os, tempfile
SECRET_KEY = "x"
INSTALLED_APPS = ["shop", "mail.apps.MailConfig", "reusable"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{tempfile.gettempdir()}/shop-{os.getpid()}"}}
USE_TZ = True
"""
MANAGE = """#!/usr/bin/env python
import os, sys

def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)

if __name__ == "__main__":
    main()
"""
DJANGO = {
    "backend/manage.py": MANAGE.format(settings="config.settings.local"),
    "backend/config/__init__.py": "",
    "backend/config/settings/__init__.py": "",
    "backend/config/settings/base.py": SETTINGS,
    "backend/config/settings/local.py": "from .base import *\nDEBUG = True\n",
    "backend/shop/__init__.py": "",
    "backend/shop/models.py": "from django.db.models import *\nclass Order(Model):\n    total = IntegerField()\n",
    "backend/shop/tasks.py": """
import os
from deferlite import defer
from django.db import connection
from shop.models import Order

with connection.cursor() as cursor:
    cursor.execute("select 1")

@defer
def count_orders() -> list:
    closed = connection.connection is None
    with connection.schema_editor() as editor:
        editor.create_model(Order)
    Order.objects.create(total=7)
    os.remove(connection.settings_dict["NAME"])
    return [closed, Order.objects.count(), Order._meta.label]
""",
    "backend/mail/__init__.py": "",
    "backend/mail/apps.py": "from django.apps import AppConfig\nclass MailConfig(AppConfig):\n    name = 'mail'\n",
    "backend/mail/tasks/__init__.py": job("mail"),
    "backend/mail/tests/tasks.py": "raise SystemExit\n" + job("trap"),
    "backend/web/views.py": "raise SystemExit('nothing of deferlite here')\n",
    "libs/reusable/__init__.py": "",
    "libs/reusable/tasks.py": job("reusable"),
}


async def run(make_bench: MakeBench, discover: Discovery, found: dict[str, Any], *calls: tuple[Any, ...]) -> list[Any]:
    """What the functions return: each call is a function's name and its arguments."""
    assert "error" not in found, found["error"]
    plans, by_name = Plans(), {one["name"]: one for one in found["functions"]}
    python = Path(discover.interpreter)
    plans.add(
        "project",
        discover.repository,
        *found["modules"],
        interpreter=python,
        import_paths=(*discover.import_paths(found), REPOSITORY),
        read_only=(python.parent.parent,),
        django_settings=found["django_settings"],
    )
    results = []
    async with make_bench(plans) as bench:
        for name, *arguments in calls:
            one = by_name[name]
            outcome = await bench.run(one["attribute"], *arguments, build="project", module=one["module"])
            assert outcome.ending is Ending.RETURNED, outcome.result
            results.append(json.loads(outcome.result))
    return results


async def test_django(make_bench: MakeBench, discover: Discovery, tmp_path: Path) -> None:
    found = discover(DJANGO, paths=["libs"], TMPDIR=str(tmp_path))
    assert modules(found) == ["shop.tasks", "mail.tasks", "reusable.tasks"]
    assert found["django_settings"] == "config.settings.local"
    assert found["import_paths"] == ["backend", ".", "libs"]
    assert await run(make_bench, discover, found, ("count_orders",)) == [[True, 1, "shop.Order"]]


SMALL = {"shop/__init__.py": "", "shop/tasks.py": f"import django.contrib.contenttypes.models\n{job()}"}
SMALL_SETTINGS = "SECRET_KEY = 'x'\nINSTALLED_APPS = ['django.contrib.contenttypes', 'shop']\n"
WAYS = {
    "asgi.py": ({"site/asgi.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'conf')\n"}, {}),
    "wsgi.py": ({"shop/wsgi.py": "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'conf'\n"}, {}),
    "pyproject.toml": ({"pyproject.toml": "[tool.pytest.ini_options]\nDJANGO_SETTINGS_MODULE = 'conf'\n"}, {}),
    "django-stubs": ({"pyproject.toml": "[tool.django-stubs]\ndjango_settings_module = 'conf'\n"}, {}),
    "pytest.ini": ({"pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = conf\n"}, {}),
    "the environment": ({"manage.py": MANAGE.format(settings="other")}, {"DJANGO_SETTINGS_MODULE": "conf"}),
    "the first that is there": (
        {"manage.py": MANAGE.format(settings="conf_local"), "wsgi.py": "os.environ['DJANGO_SETTINGS_MODULE'] = 'conf'"},
        {},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_name_djangos_settings(discover: Discovery, way: str) -> None:
    files, variables = WAYS[way]
    found = discover({**SMALL, "conf.py": SMALL_SETTINGS, **files}, **variables)
    assert (names(found), found["django_settings"]) == (["job"], "conf")


BROKEN = {
    "no settings": (SMALL, ["ImproperlyConfigured", "shop/tasks.py, line 1", "DJANGO_SETTINGS_MODULE in [env]"]),
    "settings that are not there": (
        {**SMALL, "site/manage.py": MANAGE.format(settings="nope.settings")},
        ["with nope.settings, which site/manage.py names: ModuleNotFoundError", "; name the settings module that is"],
    ),
    "settings that fail": (
        {**SMALL, "manage.py": MANAGE.format(settings="conf"), "conf.py": "\nimport nosuchthing\n"},
        ["set up Django with conf", "nosuchthing", "conf.py, line 2"],
    ),
    "an app that is not there": (
        {**SMALL, "manage.py": MANAGE.format(settings="conf"), "conf.py": "INSTALLED_APPS = ['shop', 'nosuchapp']\n"},
        ["set up Django with conf", "nosuchapp"],
    ),
    "an app that fails": (
        {
            **SMALL,
            "manage.py": MANAGE.format(settings="conf"),
            "conf.py": SMALL_SETTINGS,
            "shop/models.py": "\n1 / 0\n",
        },
        ["set up Django with conf", "ZeroDivisionError", "shop/models.py, line 2"],
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_django_project_that_is_broken(discover: Discovery, fault: str) -> None:
    files, expected = BROKEN[fault]
    error = discover(files)["error"]
    assert [part for part in expected if part not in error] == [], error


FLASK = {
    "shop/__init__.py": "from flask import Flask\ndef create_app():\n    app = Flask(__name__)\n"
    "    app.config['NAME'] = 'factory'\n    return app\n",
    "shop/jobs.py": """
from deferlite import defer
from flask import current_app
from shop import create_app

@defer
def inside(text):
    with create_app().app_context():
        return f"{text} {current_app.config['NAME']}"
""",
    "app.py": """
from deferlite import defer
from flask import Flask, current_app, request
from werkzeug.local import LocalProxy

app = Flask(__name__)
lazy = LocalProxy(lambda: 1 / 0)

@defer
def outside():
    with app.app_context():
        return current_app.name

@app.get("/")
def index():
    return {"id": outside().id}

if __name__ == "__main__":
    app.run(port=8123)
""",
}


async def test_flask(make_bench: MakeBench, discover: Discovery) -> None:
    found = discover(FLASK)
    assert await run(make_bench, discover, found, ("inside", "made by the"), ("outside",)) == [
        "made by the factory",
        "app",
    ]


ASGI = {
    "fast.py": """
from deferlite import defer
from fastapi import Depends, FastAPI
from pydantic import BaseModel

class Item(BaseModel):
    price: float

app = FastAPI()

@defer
async def total(items: list[dict]) -> float:
    return sum(Item(**item).price for item in items)

@app.post("/")
async def create(item: Item):
    return {"id": (await total([item.model_dump()])).id}

if __name__ == "__main__":
    import uvicorn
    uvicorn.run(app)
""",
    "light.py": """
from deferlite import defer
from litestar import Litestar, get

@defer
def shout(text: str) -> str:
    return text.upper()

@get("/")
async def index() -> str:
    return shout("x").id

app = Litestar([index])
""",
    "star.py": """
from deferlite import defer
from starlette.applications import Starlette
from starlette.routing import Route

@defer
async def whisper(text: str) -> str:
    return text.lower()

app = Starlette(routes=[Route("/", whisper.run)])
""",
}


async def test_asgi_frameworks(make_bench: MakeBench, discover: Discovery) -> None:
    calls = ("total", [{"price": 2}, {"price": 0.5}]), ("shout", "a"), ("whisper", "B")
    assert await run(make_bench, discover, discover(ASGI), *calls) == [2.5, "A", "b"]


GUNICORN = """
from gunicorn.app.base import BaseApplication
class Server(BaseApplication):
    def load_config(self): self.cfg.set("bind", "127.0.0.1:8123")
    def load(self): return None
Server().run()
"""
SERVERS = {
    "Flask": "from flask import Flask\napp = Flask(__name__)\n\n\n\napp.run(port=8123)\n",
    "Flask that reloads": "from flask import Flask\napp = Flask(__name__)\n\n\n\napp.run(port=8123, debug=True)\n",
    "FastAPI": "import fastapi, uvicorn\n\n\n\n\nuvicorn.run(fastapi.FastAPI(), port=8123)\n",
    "uvicorn's own loop": "import asyncio, uvicorn\nfrom fastapi import FastAPI\n\n\n"
    "server = uvicorn.Server(uvicorn.Config(FastAPI(), port=8123))\nasyncio.run(server.serve())\n",
    "gunicorn": GUNICORN,
    "Django's": "from django.core.management import call_command\n\n\n\n\n"
    "call_command('runserver', '8123', '--noreload', '--skip-checks')\n",
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_an_import_starts(discover: Discovery, server: str) -> None:
    conf = "SECRET_KEY = 'x'\nDEBUG = True\n"
    files = {"jobs.py": SERVERS[server] + job(), "conf.py": conf}
    error = discover(files, DJANGO_SETTINGS_MODULE="conf")["error"]
    assert error.startswith("cannot import jobs: it starts a server on port 8123 (jobs.py, line 6); put that"), error
