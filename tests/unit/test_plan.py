"""The plan of a Python project, from its files alone."""

from __future__ import annotations

import posixpath

import pytest

from deferlite.builder.plan import Plan, TreeFiles
from deferlite.builder.runtimes.python_plan import plan_python
from deferlite.model.environment import BuildSettings
from deferlite.model.errors import BuildError

LOCK = """
version = 1

[[package]]
name = "shop"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "six" }]

[package.metadata]
requires-dist = [
    { name = "six", specifier = ">=1.16,<2" },
    { name = "toml", marker = "extra == 'more'", specifier = ">=1" },
]

[[package]]
name = "six"
version = "1.17.0"
source = { registry = "an index" }
"""
PROJECT = '[project]\nname = "Shop"\nversion = "1"\ndependencies = ["six <2, >= 1.16"]\n'


class MemoryFiles:
    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def read(self, name: str) -> str | None:
        return self._files.get(posixpath.normpath(name))

    def names(self, folder: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in self._files if "/" not in name)) if folder == "." else ()

    def is_folder(self, name: str) -> bool:
        return any(file.startswith(posixpath.normpath(name) + "/") for file in self._files)


def files_plan(files: dict[str, str], settings: BuildSettings | None = None) -> Plan:
    return plan_python(MemoryFiles(files), settings or BuildSettings())


def test_nothing_at_all_needs_no_command() -> None:
    made = files_plan({"jobs.py": ""})
    assert (made.kind, made.commands, made.shared, made.interpreter) == ("none", (), True, None)


def test_the_order_is_lock_then_requirements_then_pyproject_and_said() -> None:
    files = {"uv.lock": LOCK, "requirements.txt": "six\n", "pyproject.toml": PROJECT}
    made = files_plan(files)
    assert made.kind == "uv.lock"
    assert "not used: requirements.txt" in made.notes[0]
    del files["uv.lock"]
    assert files_plan(files).kind == "requirements.txt"
    del files["requirements.txt"]
    assert files_plan(files).kind == "pyproject.toml"


def test_a_pyproject_that_only_configures_tools_names_no_dependencies() -> None:
    assert files_plan({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}).kind == "none"


def test_install_of_the_file_replaces_detection_and_is_not_shared() -> None:
    made = files_plan({"requirements.txt": "six\n"}, BuildSettings(install="make deps"))
    assert (made.kind, made.shared) == ("install", False)
    assert made.commands[0].filled({}) == ["sh", "-c", "make deps"]


@pytest.mark.parametrize("name", ["environment.yml", "conda-lock.yml", "pixi.lock", "buildout.cfg"])
def test_a_kind_that_deferlite_does_not_know_names_the_cure(name: str) -> None:
    with pytest.raises(BuildError, match=r"\[build\] install"):
        files_plan({name: ""})
    assert name in files_plan({name: "", "requirements.txt": ""}).notes[0]


def test_a_fresh_lock_is_installed_as_it_is_and_a_stale_one_checked() -> None:
    assert "--frozen" in files_plan({"uv.lock": LOCK, "pyproject.toml": PROJECT}).commands[0].argv
    for changed in ('["six<2,>=1.17"]', '["six<2,>=1.16", "toml"]', "[]"):
        stale = PROJECT.replace('["six <2, >= 1.16"]', changed)
        assert "--locked" in files_plan({"uv.lock": LOCK, "pyproject.toml": stale}).commands[0].argv, changed


def test_a_lock_without_its_pyproject() -> None:
    with pytest.raises(BuildError, match=r"pyproject\.toml"):
        files_plan({"uv.lock": LOCK})


def test_a_lock_with_a_package_of_the_repository_is_not_shared() -> None:
    other = '\n[[package]]\nname = "common"\nsource = { editable = "../common" }\n'
    needed = LOCK.replace('[{ name = "six" }]', '[{ name = "six" }, { name = "common" }]') + other
    assert not files_plan({"uv.lock": needed, "pyproject.toml": PROJECT}).shared
    assert files_plan({"uv.lock": LOCK + other, "pyproject.toml": PROJECT}).shared


def test_requirements_that_include_others() -> None:
    made = files_plan(
        {
            "requirements.txt": "-r base/all.txt  # the rest\nsix \\\n  >= 1\n--constraint=limits.txt\n",
            "base/all.txt": "-r ../requirements.txt\n-cmore.txt\n",
            "base/more.txt": "",
            "limits.txt": "six<2\n",
        }
    )
    assert set(made.inputs) == {"requirements.txt", "base/all.txt", "base/more.txt", "limits.txt"}
    assert made.shared


def test_a_missing_include_is_named_with_its_line() -> None:
    with pytest.raises(BuildError, match=r"requirements\.txt, line 2, names other\.txt"):
        files_plan({"requirements.txt": "six\n-r other.txt\n"})


@pytest.mark.parametrize(
    "line",
    ["-e .", "./lib", ".", ".[extra]", "../common", "libs/common", "common @ file:///srv/common", "--editable=lib"],
)
def test_what_comes_from_the_tree_is_not_shared(line: str) -> None:
    assert not files_plan({"requirements.txt": f"{line}\n", "libs/common/setup.py": ""}).shared


@pytest.mark.parametrize("line", ["six", "-e git+https://example.org/a.git", "a @ https://example.org/a.whl", "a/b"])
def test_what_comes_from_elsewhere_is_shared(line: str) -> None:
    assert files_plan({"requirements.txt": f"{line}\n"}).shared


def test_local_and_dynamic_dependencies_of_pyproject_are_not_shared() -> None:
    sources = '[tool.uv.sources]\ncommon = { path = "../common" }\n'
    assert not files_plan({"pyproject.toml": PROJECT + sources}).shared
    assert not files_plan({"pyproject.toml": '[project]\nname = "a"\ndynamic = ["dependencies"]\n'}).shared
    assert files_plan({"pyproject.toml": PROJECT}).shared


def test_only_the_dependencies_of_pyproject_count() -> None:
    other = PROJECT.replace('version = "1"', 'version = "2"') + '[tool.ruff]\nselect = ["E"]\n'
    assert files_plan({"pyproject.toml": PROJECT}).inputs == files_plan({"pyproject.toml": other}).inputs


def test_who_decides_about_the_interpreter() -> None:
    files = {"pyproject.toml": '[project]\nname = "a"\nrequires-python = ">=3.11"\n', ".python-version": "# hi\n3.12\n"}
    asked = files_plan(files, BuildSettings(python="3.13")).interpreter
    assert asked is not None and (asked.wanted, asked.source) == ("3.13", "[build] python")
    asked = files_plan(files).interpreter
    assert asked is not None and (asked.wanted, asked.source) == ("3.12", ".python-version")
    del files[".python-version"]
    asked = files_plan(files).interpreter
    assert asked is not None and asked.wanted == ">=3.11"


def test_a_python_version_file_with_a_name_is_told_and_not_used() -> None:
    made = files_plan({".python-version": "shop-env\n"})
    assert made.interpreter is None
    assert any("shop-env" in note for note in made.notes)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pyproject.toml": "[project\n"}, "pyproject.toml is not TOML"),
        ({"pyproject.toml": "project = 3\n"}, "pyproject.toml"),
        ({"pyproject.toml": '[project]\ndependencies = "six"\n'}, "dependencies"),
        ({"uv.lock": "]", "pyproject.toml": PROJECT}, "uv.lock is not TOML"),
        ({"pyproject.toml": '[project]\nrequires-python = "new"\n'}, "requires-python"),
    ],
)
def test_broken_files_are_named(files: dict[str, str], said: str) -> None:
    with pytest.raises(BuildError) as caught:
        files_plan(files)
    assert said in str(caught.value)


def test_a_symlink_out_of_the_tree_is_not_there(tmp_path) -> None:
    (tmp_path / "secret.txt").write_text("six\n")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "requirements.txt").symlink_to(tmp_path / "secret.txt")
    files = TreeFiles(tree, tree)
    assert files.read("requirements.txt") is None
    assert files.read("../secret.txt") is None


def test_node_is_told() -> None:
    assert any("package.json" in note for note in files_plan({"package.json": "{}"}).notes)
