"""What an application gets by ``import deferlite``: the standard library, from Python 3.10 on, and little of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import deferlite
from tests.support import interpreters

ROOT = Path(__file__).resolve().parents[2]
LATER = {"asyncio", "http.client", "ssl", "zoneinfo", "logging", "concurrent.futures", "urllib.parse", "subprocess"}
ALL_MODULES = sorted(
    f"deferlite.sdk.{path.stem}" for path in (ROOT / "deferlite/sdk").glob("*.py") if path.stem != "__init__"
)


def modules_after(statement: str, python: str = sys.executable) -> set[str]:
    # -S and -I leave site-packages and the tests' own folders out.
    script = (
        f"import sys, json; before = set(sys.modules); sys.path.insert(0, {str(ROOT)!r}); {statement}; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([python, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_it_is_light() -> None:
    assert not modules_after("import deferlite") & LATER


def test_it_needs_the_standard_library_only() -> None:
    found = modules_after("import deferlite.testing, " + ", ".join(ALL_MODULES))
    strangers = {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"deferlite"}
    assert not strangers


PYTHONS = interpreters()


@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_of_the_machine_imports_it(version: str) -> None:
    modules_after("import deferlite.testing, " + ", ".join(ALL_MODULES), PYTHONS[version])


def test_every_public_name_is_there_and_told_about() -> None:
    for name in deferlite.__all__:
        found = getattr(deferlite, name)
        assert name == "__version__" or found.__doc__, name
    for name in ("get_execution", "cancel_execution", "list_executions", "rerun_execution", "reschedule_execution"):
        assert f"a{name}" in deferlite.__all__


def test_it_is_marked_as_typed() -> None:
    assert (Path(deferlite.__file__).parent / "py.typed").is_file()
