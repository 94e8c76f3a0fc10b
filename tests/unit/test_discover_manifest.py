"""What discovery answers, checked and turned into a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deferlite.builder.runtimes import Launch
from deferlite.builder.runtimes.manifest import Found, make_manifest, read_found
from deferlite.model.errors import BuildError
from deferlite.model.function import Manifest

LAUNCH = Launch(venv="venv", executable="bin/python", project="source", import_paths=(".",))


def found(folder: Path, *functions: dict[str, Any]) -> Found:
    """Functions by name, in a file of their own, through the file that carries them."""
    common = {"module": "jobs", "attribute": "job", "is_async": False, "line": 7}
    full = [{**common, "file": f"{one['name']}.py", **one} for one in functions]
    path = folder / "answer.json"
    path.write_text(json.dumps({"modules": ["jobs"], "functions": full}))
    return read_found(path)


def manifest(folder: Path, *functions: dict[str, Any]) -> Manifest:
    return make_manifest("python", found(folder, *functions), LAUNCH)


def test_aliases_arrive(tmp_path: Path) -> None:
    one, two = manifest(tmp_path, {"name": "one", "aliases": ["a", "b", "a"]}, {"name": "two"}).functions
    assert (one.aliases, two.aliases) == (("a", "b"), ())


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "its own name": ([{"name": "one", "aliases": ["one"]}], 'its alias "one" is its own name: remove it'),
    "another's name": (
        [{"name": "one", "aliases": ["two"]}, {"name": "two"}],
        'its alias "two" is the name of function two (two.py, line 7)',
    ),
    "another's alias": (
        [{"name": "one", "aliases": ["old"]}, {"name": "two", "aliases": ["old"]}],
        'function two (two.py, line 7): its alias "old" is an alias of function one (one.py, line 7) too',
    ),
    "not text": ([{"name": "one", "aliases": [7]}], "function one (one.py, line 7): an alias is a former name as text"),
    "empty": ([{"name": "one", "aliases": [" "]}], "an alias is a former name as text, not ' '"),
    "no list": ([{"name": "one", "aliases": "old"}], 'aliases is a list of its former names, such as aliases=["send"]'),
    "a bad cron": ([{"name": "one", "metadata": {"cron": "x"}}], "function one (one.py, line 7): "),
    "a bad option": ([{"name": "one", "metadata": {"concurrency": "two"}}], "function one (one.py, line 7): "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_names_its_place(tmp_path: Path, case: str) -> None:
    functions, expected = WRONG[case]
    with pytest.raises(BuildError) as failed:
        manifest(tmp_path, *functions)
    assert expected in str(failed.value)


def test_no_answer_and_an_answer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="gave no answer"):
        read_found(tmp_path / "nothing.json")
    (tmp_path / "link.json").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="gave no answer"):
        read_found(tmp_path / "link.json")
    (tmp_path / "bad.json").write_text('{"functions": [{}]}')
    with pytest.raises(BuildError, match="cannot be read"):
        read_found(tmp_path / "bad.json")
