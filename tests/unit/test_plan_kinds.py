"""The plan of every kind of project, and of those that are wrong."""

from __future__ import annotations

import pytest

from deferlite.builder.plan import Command, Plan
from deferlite.model.environment import BuildSettings
from deferlite.model.errors import BuildError
from tests.unit.test_plan import LOCK, PROJECT, files_plan

POETRY = '[tool.poetry]\nname = "shop"\nversion = "2"\n[tool.poetry.dependencies]\npython = "^3.10"\nsix = "*"\n'
POETRY_CORE = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
PYLOCK = 'lock-version = "1.0"\n[[packages]]\nname = "six"\nversion = "1.17.0"\n'
SCRIPT = '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["six"]\n# ///\nfrom deferlite import defer\n'
SETUP = 'from setuptools import setup\nsetup(name="shop", version="1", install_requires=["six"])\n'


@pytest.mark.parametrize(
    ("kind", "files", "program"),
    [
        ("uv.lock", {"uv.lock": LOCK, "pyproject.toml": PROJECT}, "sync"),
        ("pylock.toml", {"pylock.toml": PYLOCK, "pyproject.toml": PROJECT}, "pip"),
        ("poetry.lock", {"poetry.lock": "", "pyproject.toml": POETRY}, "tool"),
        ("pdm.lock", {"pdm.lock": "", "pyproject.toml": PROJECT}, "tool"),
        ("Pipfile.lock", {"Pipfile.lock": "{}", "Pipfile": ""}, "tool"),
        ("requirements.txt", {"requirements.txt": "six\n", "requirements.in": "six\n"}, "pip"),
        ("requirements/", {"requirements/base.txt": "six\n"}, "pip"),
        ("requirements.in", {"requirements.in": "six\n"}, "pip"),
        ("pyproject.toml", {"pyproject.toml": POETRY + POETRY_CORE}, "pip"),
        ("setup.py", {"setup.py": SETUP}, "pip"),
        ("setup.cfg", {"setup.cfg": "[options]\ninstall_requires =\n    six\n"}, "pip"),
        ("inline script metadata", {"jobs.py": SCRIPT}, "pip"),
    ],
)
def test_every_kind_is_found_and_shared(kind: str, files: dict[str, str], program: str) -> None:
    made = files_plan(files)
    assert (made.kind, made.commands[0].argv[1], made.shared) == (kind, program, True)
    assert made.notes[0] == f"dependencies come from {kind}"


def test_a_member_finds_the_lock_of_its_workspace() -> None:
    lock = LOCK.replace('virtual = "."', 'virtual = "apps/shop"')
    made = files_plan({"../uv.lock": lock, "../pyproject.toml": "", "pyproject.toml": PROJECT})
    assert made.kind == "uv.lock" and made.shared
    assert "--package" in made.commands[0].argv
    other = PROJECT.replace("Shop", "another")
    assert files_plan({"../uv.lock": lock, "pyproject.toml": other}).kind == "pyproject.toml"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"poetry.lock": "", "setup.py": ""}, "poetry.lock needs the pyproject.toml"),
        ({"poetry.lock": "[[", "pyproject.toml": POETRY}, "poetry.lock is not TOML"),
        ({"poetry.lock": "package = 3", "pyproject.toml": POETRY}, "poetry.lock is not as it should be"),
        ({"pdm.lock": "package = [1]", "pyproject.toml": PROJECT}, "pdm.lock is not as it should be"),
        ({"Pipfile.lock": "{", "Pipfile": ""}, "Pipfile.lock is not JSON"),
        ({"Pipfile.lock": '{"default": 3}', "Pipfile": ""}, "run `pipenv lock`"),
        ({"Pipfile": ""}, "run `pipenv lock`"),
        ({"Pipfile": "requires = 3\n"}, "Pipfile is not as it should be"),
        ({"Pipfile.lock": "{}"}, "Pipfile.lock needs the Pipfile"),
        ({"pylock.toml": ""}, "lock-version"),
        ({"pylock.toml": PYLOCK.replace("six", "idna"), "pyproject.toml": PROJECT}, "pylock.toml lacks six"),
        ({"uv.lock": "package = 3", "pyproject.toml": PROJECT}, "uv.lock is not as it should be"),
        ({"uv.lock": "[[package]]\nname = 'a'\nsource = 3", "pyproject.toml": PROJECT}, "uv.lock is not as it"),
        ({"requirements.in": "six\nidna\n", "requirements.txt": "six==1\n"}, "uv pip compile requirements.in"),
        ({"requirements.in": "six>=2\n", "requirements.txt": "six==1.17.0\n"}, "has six 1.17.0 and not six>=2"),
        (
            {"pylock.toml": PYLOCK.replace("1.17.0", "1.2"), "pyproject.toml": PROJECT},
            "has six 1.2 and not six<2,>=1.16",
        ),
        ({"requirements.txt": "-r ../../outside.txt\n"}, "which is not in the repository"),
        ({"setup.cfg": "name = 3\n"}, "setup.cfg cannot be read"),
        ({"jobs.py": SCRIPT.replace('["six"]', "3")}, "jobs.py, its `# /// script` block"),
        ({"pyproject.toml": POETRY}, "no [build-system]"),
        ({"pyproject.toml": "[tool]\npoetry = 3\n"}, "pyproject.toml is not as it should be"),
        (
            {".python-version": "3.10", "pyproject.toml": '[project]\nrequires-python = ">=3.12"\n'},
            "no version is both",
        ),
    ],
)
def test_what_is_wrong_is_named_with_the_cure(files: dict[str, str], said: str) -> None:
    with pytest.raises(BuildError) as caught:
        files_plan(files)
    assert said in str(caught.value)


def test_what_a_marker_may_leave_out_of_a_compiled_list_is_not_missed() -> None:
    files = {"requirements.in": "six\nidna; sys_platform == 'win32'\ndeferlite\n", "requirements.txt": "six==1\n"}
    assert files_plan(files).kind == "requirements.txt"


def asked(files: dict[str, str]) -> tuple[str, str | None] | None:
    request = files_plan(files).interpreter
    return (request.wanted, request.otherwise) if request else None


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"runtime.txt": "python-3.12.1\n"}, ("python-3.12.1", "==3.12.*")),
        ({".python-version": "3.12.1\n", "runtime.txt": "python-3.11\n"}, ("3.12.1", "==3.12.*")),
        ({"Pipfile": '[requires]\npython_version = "3.11"\n', "requirements.txt": ""}, ("3.11", None)),
        ({"setup.cfg": "[options]\npython_requires = >=3.11\n"}, (">=3.11", None)),
        ({"setup.py": 'setup(python_requires="~=3.11")\n'}, ("~=3.11", None)),
        ({"jobs.py": SCRIPT}, (">=3.11", None)),
        ({"pyproject.toml": POETRY + POETRY_CORE}, (">=3.10,<4", None)),
        ({".python-version": "pypy3.10"}, ("pypy3.10", None)),
        (
            {".python-version": "3.12", "pyproject.toml": '[project]\nrequires-python = ">=3.12.4"\n'},
            ("==3.12.*,>=3.12.4", None),
        ),
        (
            {".python-version": "3.12.9", "pyproject.toml": '[project]\nrequires-python = ">=3.12.4"\n'},
            ("3.12.9", "==3.12.*,>=3.12.4"),
        ),
    ],
)
def test_where_a_version_is_asked_for(files: dict[str, str], wanted: tuple[str, str | None]) -> None:
    assert asked(files) == wanted


@pytest.mark.parametrize(
    ("files", "roots"),
    [
        ({"pyproject.toml": '[tool.setuptools.packages.find]\nwhere = ["lib"]\n'}, ("lib",)),
        ({"pyproject.toml": '[tool.setuptools]\npackage-dir = {"shop" = "lib/shop"}\n'}, ("lib",)),
        ({"pyproject.toml": '[tool.poetry]\npackages = [{include = "shop", from = "lib"}]\n'}, ("lib",)),
        ({"pyproject.toml": '[tool.pdm.build]\npackage-dir = "lib"\n'}, ("lib",)),
        ({"pyproject.toml": '[tool.hatch.build.targets.wheel]\npackages = ["lib/shop"]\n'}, ("lib",)),
        ({"setup.cfg": "[options]\npackage_dir =\n    = lib\n"}, ("lib",)),
        ({"setup.py": 'setup(packages=find_packages(where="lib"))\n'}, ("lib",)),
        ({"pyproject.toml": '[tool.setuptools.packages.find]\nwhere = ["../lib", "/etc", "src", "no"]\n'}, ()),
    ],
)
def test_folders_that_modules_are_imported_from(files: dict[str, str], roots: tuple[str, ...]) -> None:
    assert files_plan(files | {"lib/shop/__init__.py": "", "src/shop/__init__.py": ""}).import_roots == roots


def own(files: dict[str, str]) -> tuple[str, str | None, bool] | None:
    found = files_plan(files).own
    return (found.name, found.version, found.compiled) if found else None


def test_what_a_project_is_as_a_distribution() -> None:
    dynamic = '[project]\nname = "shop"\ndynamic = ["version"]\n'
    setuptools = dynamic + '[tool.setuptools.dynamic]\nversion = {attr = "shop.__version__"}\n'
    assert own({"jobs.py": ""}) is None
    assert own({"pyproject.toml": dynamic}) is None
    assert own({"pyproject.toml": dynamic + "[build-system]\nrequires = []\n"}) == ("shop", None, False)
    assert own({"pyproject.toml": setuptools, "shop/__init__.py": "__version__ = '3.1'\n"}) == ("shop", "3.1", False)
    assert own({"pyproject.toml": POETRY + POETRY_CORE}) == ("shop", "2", False)
    assert own({"setup.py": SETUP}) == ("shop", "1", False)
    assert own({"setup.py": SETUP.replace(")\n", ", ext_modules=made())\n")}) == ("shop", "1", True)
    maturin = '[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n'
    assert own({"pyproject.toml": PROJECT + maturin}) == ("Shop", "1", True)
    assert own({"pyproject.toml": '[project]\nname = "../up"\nversion = "1"\n'}) is None
    assert own({"pyproject.toml": '[project]\nname = "shop"\nversion = "1/../../up"\n'}) is None


def test_computed_requirements_of_a_setup_py_are_not_shared() -> None:
    made = files_plan({"setup.py": SETUP.replace('["six"]', "read()")})
    assert made.commands[0].argv[-1] == "setup.py" and not made.shared
    assert files_plan({"setup.py": SETUP}).given == {"requirements.txt": "six\n"}


def test_requirements_of_setuptools_in_files_are_shared_by_their_text() -> None:
    text = '[project]\nname = "a"\ndynamic = ["dependencies"]\n'
    text += '[tool.setuptools.dynamic]\ndependencies = {file = ["needs.txt"]}\n'
    made = files_plan({"pyproject.toml": text, "needs.txt": "six\n"})
    assert made.shared and "needs.txt" in made.inputs


def overridden(**asked: str) -> Plan:
    return files_plan({"requirements.txt": "six\n"}, BuildSettings(overrides=asked))


def test_overrides_are_requirements_and_part_of_what_decides() -> None:
    made = overridden(six="1.16", idna=">=3,<4")
    assert made.overrides == ("idna>=3,<4", "six==1.16")
    assert made.commands[-1].argv[-1] == "{given}/overrides.txt"
    said = "Because there is no version of six==1.16 and you require it"
    assert made.commands[-1].cure(said).startswith('[build] overrides six = "1.16"')


@pytest.mark.parametrize(("name", "version"), [("--index-url", "1"), ("six", "new"), ("six", "1 --pre"), ("a b", "1")])
def test_an_override_that_is_none(name: str, version: str) -> None:
    with pytest.raises(BuildError, match=r"\[build\] overrides"):
        overridden(**{name: version})


def test_a_lock_that_names_deferlite_leaves_it_to_the_server() -> None:
    sdk = '[[packages]]\nname = "deferlite"\nversion = "1"\n[[packages.wheels]]\nurl = "x"\n'
    made = files_plan({"pylock.toml": PYLOCK + sdk})
    assert made.given["pylock.toml"].strip() == PYLOCK.strip()


def test_paths_of_a_lock_that_is_installed_from_elsewhere_stay_true() -> None:
    local = '[[packages]]\nname = "common"\n[packages.directory]\npath = "libs/common"\n'
    absolute = '[[packages]]\nname = "other"\ndirectory = { path = "/srv/other" }\n'
    made = files_plan({"pylock.toml": PYLOCK + local + absolute + '[[packages]]\nname = "deferlite"\n'})
    assert 'path = "{project}/libs/common"' in made.given["pylock.toml"] and not made.shared
    assert 'path = "/srv/other"' in made.given["pylock.toml"]


@pytest.mark.parametrize(
    ("asked", "pinned"),
    [
        ("six>=1.16", "six==1.17.0"),
        ("Six", "six==1"),
        ("six>=2; python_version < '3'", "six==1"),
        ("six>=2,<3", "six==1 ; python_version < '3'\nsix==2.1 ; python_version >= '3'"),
        ("six>=1", "six @ https://example.invalid/six-2.whl"),
        ("six>=2.0a1", "six==2.0a2"),
        ("deferlite", "six==1"),
    ],
)
def test_pins_that_fit_what_is_asked_for(asked: str, pinned: str) -> None:
    assert files_plan({"requirements.in": asked + "\n", "requirements.txt": pinned + "\n"}).kind == "requirements.txt"


def test_places_of_a_command() -> None:
    places = {"uv": "/bin/uv", "taken": "/taken"}
    assert Command(("{uv}", "{taken}/a.txt", "x{uv}")).filled(places) == ["/bin/uv", "/taken/a.txt", "x{uv}"]
    assert Command(("{uv}",), output="a.txt").filled(places)[-2:] == ["/taken/a.txt", "/bin/uv"]
