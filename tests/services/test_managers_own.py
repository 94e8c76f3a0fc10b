"""Projects that have to be built themselves: what that makes is importable beside their sources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deferlite.model.build import BuildState
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.services.test_managers import asserting, good

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


EXTENSION = """
#include <Python.h>

static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", NULL, -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""


@pytest.mark.parametrize("module", ["shop.fast", "fast"])
async def test_a_project_with_a_c_extension_of_its_own(shop: Workshop, module: str) -> None:
    setup = (
        "from setuptools import Extension, setup\n\n"
        f'setup(name="shop", version="1", packages=["shop"], ext_modules=[Extension("{module}", ["fast.c"])])\n'
    )
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        "setup.py": setup,
        "fast.c": EXTENSION.replace("NAME", "fast"),
        "shop/__init__.py": "",
        "shop/jobs.py": f"from {module} import answer\n\nassert answer() == 42\n" + job(),
    }
    good(build := await shop.build(shop.repository(files)))
    assert not list(shop.folder(build).source.rglob("*.egg-info"))
    (module_dir,) = {path.parent.name for path in shop.folder(build).source.rglob("fast.*.so")} or {""}
    assert module_dir == ("shop" if "." in module else "")


async def test_an_extension_that_does_not_compile(shop: Workshop) -> None:
    setup = (
        "from setuptools import Extension, setup\n\n"
        'setup(name="shop", version="1", py_modules=[], ext_modules=[Extension("fast", ["fast.c"])])\n'
    )
    build = await shop.build(shop.repository({"setup.py": setup, "fast.c": "no C at all\n", "jobs.py": job()}))
    assert build.state is BuildState.FAILED
    assert build.error is not None and "fast.c" in build.error


async def test_a_version_that_only_the_back_end_knows(shop: Workshop) -> None:
    system = '[build-system]\nrequires = ["hatchling", "hatch-vcs"]\nbuild-backend = "hatchling.build"\n'
    dynamic = '[project]\nname = "shop"\ndynamic = ["version"]\n' + system + '[tool.hatch.version]\nsource = "vcs"\n'
    hook = '[tool.hatch.build.hooks.vcs]\nversion-file = "shop/made.py"\n'
    files = {
        "pyproject.toml": dynamic + hook,
        "shop/__init__.py": "",
        "shop/jobs.py": "from shop import made\n" + asserting("metadata.version('shop') == made.version"),
    }
    good(build := await shop.build(shop.repository(files)))
    assert "[env] SETUPTOOLS_SCM_PRETEND_VERSION" in await shop.log(build)
