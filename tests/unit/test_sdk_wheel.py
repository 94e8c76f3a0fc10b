"""The server's SDK as a wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deferlite.builder.sdk_wheel import make_sdk_wheel


def test_the_same_sources_make_the_same_wheel(tmp_path: Path) -> None:
    first, second = make_sdk_wheel(tmp_path / "a"), make_sdk_wheel(tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == second.digest
    written = first.path.stat().st_ino
    assert make_sdk_wheel(tmp_path / "a").path.stat().st_ino == written


def test_many_may_be_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = {wheel.path for wheel in pool.map(make_sdk_wheel, [tmp_path] * 32)}
    assert [path.name for path in paths] == [path.name for path in next(iter(paths)).parent.iterdir()]


def test_it_holds_the_sdk_and_nothing_of_the_server(tmp_path: Path) -> None:
    names = zipfile.ZipFile(make_sdk_wheel(tmp_path).path).namelist()
    assert {"deferlite/__init__.py", "deferlite/py.typed", "deferlite/sdk/retry.py"} <= set(names)
    allowed = ("deferlite/__init__.py", "deferlite/py.typed", "deferlite/testing.py", "deferlite/sdk/")
    assert [name for name in names if not name.startswith((*allowed, "deferlite-"))] == []


def test_it_imports_from_the_archive_itself(tmp_path: Path) -> None:
    wheel = make_sdk_wheel(tmp_path).path
    code = "import deferlite; print(deferlite.__file__)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(wheel)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(wheel) in done.stdout
