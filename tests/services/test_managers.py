"""Projects of every package manager become live builds, with real uv, real tools and a real index."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uv

from deferlite.builder.runtimes.interpreters import own_interpreter
from deferlite.model.build import Build, BuildState
from tests.services.builder_fixtures import Workshop, job, workshop

pytestmark = pytest.mark.anyio

SIX = """
files = [
    {file = "six-1.17.0-py2.py3-none-any.whl", hash = "sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"},
    {file = "six-1.17.0.tar.gz", hash = "sha256:ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81"},
]
"""  # noqa: E501
POETRY = """
[tool.poetry]
name = "shop"
version = "1.2"
description = ""
authors = []
packages = [{ include = "shop", from = "lib" }]

[tool.poetry.dependencies]
python = "^3.10"
six = "^1.16"

[tool.poetry.group.dev.dependencies]
idna = "*"

[tool.poetry.plugins."shop.plugins"]
one = "shop.jobs:job"

[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
POETRY_LOCK = f"""
[[package]]
name = "six"
version = "1.17.0"
description = "Python 2 and 3 compatibility utilities"
optional = false
python-versions = ">=2.7"
groups = ["main"]
{SIX}
[metadata]
lock-version = "2.1"
python-versions = "^3.10"
content-hash = "226c7364d7acf29d88b2f89ad3e10e1e27804591052ac2dd3e85bd75cad495c8"
"""
PDM = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["six>=1.16"]\n'
PDM_LOCK = f"""
[metadata]
groups = ["default"]
strategy = ["inherit_metadata"]
lock_version = "4.5.0"
content_hash = "sha256:d1493f77f981f89d8173ccdac1e23431e7edbaf7ec92421b2a3b8c33dd9255e4"

[[metadata.targets]]
requires_python = ">=3.10"

[[package]]
name = "six"
version = "1.17.0"
requires_python = ">=2.7"
summary = "Python 2 and 3 compatibility utilities"
groups = ["default"]
{SIX}"""
PIPFILE = '[packages]\nsix = "*"\n\n[requires]\npython_version = "3"\n'
PIPFILE_LOCK = """
{
  "_meta": {
    "hash": {
      "sha256": "ae1993be81716cc933bd3df78499f83716d51c1a1c02952c87159b72fe072a3c"
    },
    "pipfile-spec": 6, "requires": {"python_version": "3"}, "sources": []
  },
  "default": {
    "six": {
      "hashes": [
        "sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
        "sha256:ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81"
      ],
      "version": "==1.17.0"
    }
  },
  "develop": {}
}
"""
USES_SIX = "import six\n\nassert six.__version__ == '1.17.0'\n" + job()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


def run_uv(folder: Path, *options: str) -> None:
    subprocess.run([uv.find_uv_bin(), *options], cwd=folder, check=True, capture_output=True)


def good(build: Build) -> None:
    assert (build.state, build.error) == (BuildState.SUCCEED, None)


def asserting(test: str) -> str:
    """A module whose import fails where the test does not hold."""
    return f"import importlib.metadata as metadata\n\nassert {test}, {test!r}\n" + job()


def unchanged(shop: Workshop, build: Build, committed: str) -> None:
    """Nothing but what is committed, caches of Python aside, lies in the tree."""
    source = shop.folder(build).source
    found = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert {path for path in found if "__pycache__" not in path} == set(committed.split())


async def test_poetry(shop: Workshop) -> None:
    """The lock is checked, exported with its hashes and installed; groups are left out; the tree stays as it is."""
    module = USES_SIX + (
        "\nfrom importlib import metadata\n\nassert metadata.version('shop') == '1.2'\n"
        "assert [one.value for one in metadata.entry_points(group='shop.plugins')] == ['shop.jobs:job']\n"
    )
    files = {
        "pyproject.toml": POETRY,
        "poetry.lock": POETRY_LOCK,
        "lib/shop/__init__.py": "",
        "lib/shop/jobs.py": module,
    }
    repository = shop.repository(files)
    good(first := await shop.build(repository))
    unchanged(shop, first, repository.git("ls-files"))
    assert "idna" not in await shop.log(first)
    assert (await shop.launch(first)).modules == ("shop.jobs",)
    repository.commit("a new limit", {"pyproject.toml": POETRY.replace("^1.16", "^1.15")})
    stale = await shop.build(repository)
    assert stale.error is not None and "run `poetry lock` and commit poetry.lock" in stale.error
    assert await shop.live() == first.id


async def test_pdm(shop: Workshop) -> None:
    repository = shop.repository({"pyproject.toml": PDM, "pdm.lock": PDM_LOCK, "jobs.py": USES_SIX})
    good(first := await shop.build(repository))
    unchanged(shop, first, repository.git("ls-files"))
    repository.commit("a new limit", {"pyproject.toml": PDM.replace("1.16", "1.15")})
    stale = await shop.build(repository)
    assert stale.error is not None and "run `pdm lock` and commit pdm.lock" in stale.error


async def test_pipenv(shop: Workshop) -> None:
    repository = shop.repository({"Pipfile": PIPFILE, "Pipfile.lock": PIPFILE_LOCK, "jobs.py": USES_SIX})
    good(first := await shop.build(repository))
    unchanged(shop, first, repository.git("ls-files"))
    repository.commit("a new limit", {"Pipfile": PIPFILE.replace('"*"', '">=1.15"')})
    stale = await shop.build(repository)
    assert stale.error is not None and "run `pipenv lock` and commit Pipfile.lock" in stale.error


async def test_pylock(shop: Workshop) -> None:
    files = {"pyproject.toml": PDM, "jobs.py": USES_SIX.replace("== '1.17.0'", "")}
    repository = shop.repository(files)
    run_uv(repository.path, "export", "--quiet", "--format", "pylock.toml", "-o", "pylock.toml")
    (repository.path / "uv.lock").unlink(missing_ok=True)
    repository.commit("a lock", {})
    good(await shop.build(repository))
    repository.commit("a new need", {"pyproject.toml": PDM.replace('"six', '"idna", "six')})
    stale = await shop.build(repository)
    assert stale.error is not None and "pylock.toml lacks idna" in stale.error and "uv export" in stale.error


async def test_hashes_are_checked(shop: Workshop) -> None:
    wrong = "six==1.17.0 --hash=sha256:" + 64 * "0" + "\n"
    build = await shop.build(shop.repository({"requirements.txt": wrong, "jobs.py": USES_SIX}))
    assert build.error is not None and "Hash mismatch" in build.error


async def test_requirements_with_includes_extras_markers_editables_and_an_index_of_their_own(shop: Workshop) -> None:
    wheels = shop.tmp_path / "shop" / "deps" / "wheels"
    common = '[project]\nname = "common"\nversion = "3"\n[project.optional-dependencies]\nmore = ["six"]\n'
    files = {
        "requirements.txt": "-r deps/all.txt\n-c limits.txt\n-e libs/common[more]\nidna; sys_platform == 'win32'\n",
        "deps/all.txt": "--find-links wheels\nsix\n",
        "limits.txt": "six==1.17.0\n",
        "libs/common/pyproject.toml": common,
        "libs/common/common.py": "",
        "jobs.py": "import common\n" + USES_SIX + "\ntry:\n    import idna\nexcept ImportError:\n    pass\n",
    }
    repository = shop.repository(files)
    wheels.mkdir(parents=True)
    (wheels / "readme").write_text("")
    repository.commit("a folder of wheels", {})
    good(await shop.build(repository))


async def test_a_lock_that_names_deferlite_and_a_folder_of_the_project(shop: Workshop) -> None:
    packages = '[[packages]]\nname = "common"\ndirectory = { path = "libs/common" }\n'
    packages += '[[packages]]\nname = "deferlite"\nversion = "0.1.0"\n[[packages.wheels]]\n'
    packages += 'url = "https://example.invalid/deferlite-0.1.0-py3-none-any.whl"\nhashes = { sha256 = "00" }\n'
    files = {
        "pylock.toml": f'lock-version = "1.0"\ncreated-by = "a person"\n{packages}',
        "libs/common/pyproject.toml": '[project]\nname = "common"\nversion = "3"\n',
        "libs/common/common.py": "",
        "jobs.py": "import common\n" + job(),
    }
    good(await shop.build(shop.repository(files)))


async def test_a_list_that_was_compiled(shop: Workshop) -> None:
    repository = shop.repository({"requirements.in": "six\n", "requirements.txt": "six==1.17.0\n", "jobs.py": USES_SIX})
    good(await shop.build(repository))
    repository.commit("a new need", {"requirements.in": "six\nidna\n"})
    stale = await shop.build(repository)
    assert stale.error is not None and "run `uv pip compile requirements.in -o requirements.txt`" in stale.error


async def test_a_script_with_its_own_requirements(shop: Workshop) -> None:
    block = '# /// script\n# requires-python = ">=3.10"\n# dependencies = ["six==1.17.0"]\n# ///\n'
    build = await shop.build(shop.repository({"script.py": block + USES_SIX}))
    good(build)
    assert "dependencies come from inline script metadata" in await shop.log(build)


@pytest.mark.parametrize(
    ("requires", "backend", "table"),
    [
        ("setuptools", "setuptools.build_meta", "project"),
        ("hatchling", "hatchling.build", "project"),
        ("flit_core", "flit_core.buildapi", "project"),
        ("pdm-backend", "pdm.backend", "project"),
        ("poetry-core", "poetry.core.masonry.api", "project"),
        ("poetry-core", "poetry.core.masonry.api", "poetry"),
        ("flit_core>=3,<4", "flit_core.buildapi", "flit"),
    ],
)
async def test_a_pyproject_alone(shop: Workshop, requires: str, backend: str, table: str) -> None:
    project = {
        "project": '[project]\nname = "shop"\nversion = "2"\ndescription = "x"\ndependencies = ["six==1.17.0"]\n',
        "poetry": POETRY.partition("[build-system]")[0].replace('"1.2"', '"2"'),
        "flit": '[tool.flit.metadata]\nmodule = "shop"\nauthor = "x"\nrequires = ["six==1.17.0"]\n',
    }[table]
    system = f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n'
    folder = "lib/shop" if table == "poetry" else "shop"
    files = {
        "pyproject.toml": project + system,
        f"{folder}/__init__.py": '"""A shop."""\n__version__ = "2"\n',
        f"{folder}/jobs.py": "import six\n" + asserting("metadata.version('shop') == '2'"),
    }
    good(await shop.build(shop.repository(files)))


SETUP = """
from setuptools import find_packages, setup

setup(
    name="shop",
    version={version},
    install_requires={requires},
    package_dir={{"": "lib"}},
    packages=find_packages("lib"),
    entry_points={{"shop.plugins": ["one = shop.jobs:job"]}},
)
"""


@pytest.mark.parametrize("requires", ['["six==1.17.0"]', 'open("needs.txt").read().split()'])
@pytest.mark.parametrize("version", ['"4"', 'open("version.txt").read().strip()'])
async def test_setup_py(shop: Workshop, requires: str, version: str) -> None:
    files = {
        "setup.py": SETUP.format(requires=requires, version=version),
        "needs.txt": "six==1.17.0\n",
        "version.txt": "4\n",
        "lib/shop/__init__.py": "",
        "lib/shop/jobs.py": "import six\n"
        + asserting("(metadata.version('shop'), len(metadata.entry_points(group='shop.plugins'))) == ('4', 1)"),
    }
    good(await shop.build(shop.repository(files)))


async def test_a_member_of_a_workspace_that_needs_another(shop: Workshop) -> None:
    system = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    sources = "[tool.uv.sources]\ncommon = { workspace = true }\n"
    files = {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["apps/*", "common"]\n',
        "common/pyproject.toml": '[project]\nname = "common"\nversion = "1"\n' + system,
        "common/src/common/__init__.py": "",
        "apps/one/pyproject.toml": '[project]\nname = "one"\nversion = "1"\nrequires-python = ">=3.10"\n'
        'dependencies = ["common", "six==1.17.0"]\n' + sources,
        "apps/one/jobs.py": "import common\n" + USES_SIX,
        "apps/two/pyproject.toml": '[project]\nname = "two"\nversion = "1"\nrequires-python = ">=3.10"\n'
        'dependencies = ["idna"]\n',
        "apps/two/jobs.py": "import idna\n" + job(),
    }
    repository = shop.repository(files)
    run_uv(repository.path, "lock", "--quiet")
    repository.commit("a lock", {})
    good(one := await shop.build(repository, "one", directory="apps/one"))
    good(two := await shop.build(repository, "two", directory="apps/two"))
    assert "the lock of the workspace: ../../uv.lock" in await shop.log(two)
    assert shop.folder(one).private_venv.exists() and not shop.folder(two).private_venv.exists()


async def test_overrides(shop: Workshop) -> None:
    files = {
        "requirements.txt": "six==1.17.0\nidna\n",
        "jobs.py": "import six\n" + asserting("six.__version__ == '1.16.0'"),
    }
    repository = shop.repository(files)
    good(first := await shop.build(repository, overrides={"six": "1.16.0"}))
    assert "[build] overrides: six==1.16.0" in await shop.log(first)
    wrong = await shop.build(repository, overrides={"six": "99.0"})
    assert wrong.error is not None and '[build] overrides six = "99.0": there is no such version' in wrong.error
    nowhere = await shop.build(repository, overrides={"no-such-package-of-anybody": ">=1"})
    assert nowhere.error is not None and "[build] overrides no-such-package-of-anybody" in nowhere.error


async def test_overrides_of_a_lock_with_hashes_and_what_does_not_fit_is_told(shop: Workshop) -> None:
    files = {
        "pyproject.toml": PDM.replace('"six>=1.16"', '"python-dateutil==2.9.0.post0"'),
        "jobs.py": "import six\n" + asserting("six.__version__ == '1.4.1'"),
    }
    repository = shop.repository(files)
    run_uv(repository.path, "lock", "--quiet")
    repository.commit("a lock", {})
    good(build := await shop.build(repository, overrides={"six": "1.4.1"}))
    assert "the packages above do not fit together" in await shop.log(build)


async def test_a_patch_version_that_is_not_there(shop: Workshop) -> None:
    files = {".python-version": "3.11.99\n", "jobs.py": job()}
    good(build := await shop.build(shop.repository(files)))
    assert "another patch version of the same Python will do" in await shop.log(build)


async def test_no_python_that_fits_lists_those_that_there_are(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"jobs.py": job()}), python="3.9")
    assert build.error is not None and "CPython 3.11" in build.error and " at /" in build.error


@pytest.mark.slow
async def test_numpy(shop: Workshop) -> None:
    files = {"requirements.txt": "numpy\n", "jobs.py": "import numpy\n\nassert numpy.arange(3).sum() == 3\n" + job()}
    good(await shop.build(shop.repository(files)))


async def test_an_interpreter_by_its_path(shop: Workshop) -> None:
    own = own_interpreter()
    good(build := await shop.build(shop.repository({"jobs.py": job()}), python=str(own.path)))
    assert f"[build] python asks for {own.path}" in await shop.log(build)
    for wrong in (shop.tmp_path / "nothing", Path(sys.executable).parent / "ruff"):
        build = await shop.build(shop.repository({"jobs.py": job()}, wrong.name), python=str(wrong))
        assert build.error is not None and "is no Python interpreter that can be used" in build.error
