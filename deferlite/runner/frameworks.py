"""What frameworks need before their modules can be imported: Django's settings, and the tasks of its apps."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator

from deferlite.runner.imports import Imports
from deferlite.runner.layout import Layout
from deferlite.runner.marks import uses_sdk

_PROGRAMS = re.compile(r"""['"]DJANGO_SETTINGS_MODULE['"]\s*[,\]]\s*=?\s*['"]([\w.]+)['"]""")
_CONFIGURATION = re.compile(
    r"""^\s*(?:DJANGO_SETTINGS_MODULE|django_settings_module)\s*=\s*['"]?([\w.]+)""", re.MULTILINE
)
_CONFIGURATION_FILES = ("pyproject.toml", "pytest.ini", "setup.cfg", "tox.ini", "mypy.ini")


def find_django(layout: Layout) -> tuple[str, str] | None:
    """The settings module, and what names it; None where there is no Django.

    The variable DJANGO_SETTINGS_MODULE comes first, then what manage.py, asgi.py or wsgi.py name, then the
    configuration of the tests. The first that is really there is taken.
    """
    named = os.environ.get("DJANGO_SETTINGS_MODULE")
    found = [(named, "DJANGO_SETTINGS_MODULE in [env]")] if named else list(_settings(layout))
    if not found or importlib.util.find_spec("django") is None:
        return None
    return next((one for one in found if layout.locate(one[0]) is not None), found[0])


def _settings(layout: Layout) -> Iterator[tuple[str, str]]:
    programs = [layout.manage] if layout.manage is not None else []
    programs += [*layout.named("asgi.py", "wsgi.py")]
    for path in programs:
        yield from ((found, layout.relative(path)) for found in _PROGRAMS.findall(_text(path)))
    for name in _CONFIGURATION_FILES:
        yield from ((found, name) for found in _CONFIGURATION.findall(_text(os.path.join(layout.folder, name))))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def start_django(settings: str, named_by: str, layout: Layout, imports: Imports) -> list[str]:
    """Set it up and return the names of its apps' ``tasks`` modules that mark functions.

    Raises:
        ProjectError: the settings or an app cannot be loaded.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    doing = f"set up Django with {settings}, which {named_by} names"
    imports.carry_out(doing, lambda: importlib.import_module("django").setup())
    found: list[str] = []
    imports.carry_out("look for the tasks of the apps", lambda: found.extend(_tasks(layout)))
    return found


def _tasks(layout: Layout) -> Iterator[str]:
    registry = sys.modules.get("django.apps")
    for app in registry.apps.get_app_configs() if registry is not None else ():
        spec = importlib.util.find_spec(f"{app.name}.tasks")
        file = spec.origin if spec is not None else None
        if file is not None and os.path.isfile(file) and uses_sdk(os.path.realpath(file), layout):
            yield f"{app.name}.tasks"
