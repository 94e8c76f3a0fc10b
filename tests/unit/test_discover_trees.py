"""Strange and large trees, and that what does not use defer is never imported."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.discovering import Discovery, job, names

TRAP = "raise SystemExit('imported')\n"


@pytest.fixture
def discover(tmp_path: Path) -> Discovery:
    return Discovery(tmp_path)


def test_strange_files(discover: Discovery) -> None:
    discover.write({"shop/deep/x.py": "", "latin.py": "défer = 'é'\n".encode("latin-1"), "null.py": b"defer \0\n"})
    discover.write({"deep.py": "defer = " + "(" * 5000 + ")" * 5000, "folder.py/inner.txt": "", "two.dots.py": TRAP})
    discover.write({"coded.py": "# coding: latin-1\nfrom deferlite import defer\né = 1\n".encode("latin-1")})
    tree = discover.repository
    os.mkfifo(tree / "fifo.py")
    (tree / "loop.py").symlink_to("loop.py")
    (tree / "gone.py").symlink_to("nowhere.py")
    (tree / "shop" / "again").symlink_to("..")
    (tree / os.fsdecode(b"bad-\xff.py")).write_text("defer\n")
    assert names(discover({"jobs.py": job()})) == ["job"]


def test_what_names_deferlite_and_is_not_text_is_an_error(discover: Discovery) -> None:
    error = discover({"shop/jobs.py": b"from deferlite import defer\nname = '\xe9'\n"})["error"]
    assert "SyntaxError" in error and "(shop/jobs.py" in error


def test_a_generated_file_is_left_out_and_can_be_named(discover: Discovery) -> None:
    generated = "from deferlite import defer\n" + "# defer deferlite\n" * 600_000 + "@defer\ndef generated(): ...\n"
    answer = discover({"jobs.py": job(), "generated.py": generated})
    assert names(answer) == ["job"]
    assert "generated.py is left out: of 10 MB; [build] functions may name it" in answer["output"]
    assert names(discover({}, ["generated", "jobs"])) == ["generated", "job"]


def test_an_unreadable_file(discover: Discovery) -> None:
    discover.write({"locked.py": TRAP, "jobs.py": job()})
    (discover.repository / "locked.py").chmod(0)
    assert names(discover({})) == ["job"]


def test_what_does_not_use_defer_is_not_imported(discover: Discovery) -> None:
    files = {
        "app.py": f"# defer\n{TRAP}",
        "shop/web.py": f"from deferlite import get_execution\n{TRAP}",
        "shop/words.py": f"'from deferlite import defer'\n{TRAP}",
        "scripts/load.py": f"{TRAP}{job('load')}",
        "bin/run.py": f"{TRAP}{job('run')}",
        "docs/conf.py": f"{TRAP}{job('conf')}",
        "conda/conda-meta/history": "",
        "conda/jobs.py": f"{TRAP}{job('conda')}",
        "env/pyvenv.cfg": "",
        "env/lib/python3.11/site-packages/other/jobs.py": f"{TRAP}{job('other')}",
    }
    assert names(discover({**files, "jobs.py": job()})) == ["job"]


def test_a_project_in_a_virtual_environments_folder(discover: Discovery) -> None:
    files = {"pyvenv.cfg": "", "lib/python3.11/site-packages/other/jobs.py": TRAP + job("other"), "bin/jobs.py": TRAP}
    assert names(discover({**files, "jobs.py": job()})) == ["job"]


def test_five_thousand_files_are_looked_at_in_a_moment(discover: Discovery) -> None:
    text = "import os\n\n\ndef function(value):\n    return os.path.join(value)\n" * 40
    for number in range(50):
        folder = discover.repository / f"package{number}"
        folder.mkdir(parents=True)
        for name in range(100):
            (folder / f"module{name}.py").write_text(text)
    began = time.perf_counter()
    assert names(discover({"package1/jobs.py": job()})) == ["job"]
    assert time.perf_counter() - began < 2
