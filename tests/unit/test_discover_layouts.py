"""Where modules lie and where functions are written: several roots, repositories of several projects, classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.discovering import PACKAGE, Discovery, job, modules, names

DEFER = "from deferlite import defer\n"


@pytest.fixture
def discover(tmp_path: Path) -> Discovery:
    return Discovery(tmp_path)


def test_a_root_of_the_plan_is_searched_and_comes_before_the_project(discover: Discovery) -> None:
    answer = discover({"lib/shop/jobs.py": f"import shop.other\n{job()}", "lib/shop/other.py": ""}, roots=["lib"])
    assert modules(answer) == ["shop.jobs"]
    assert answer["import_paths"] == ["lib", "."]


def test_two_roots_share_a_namespace(discover: Discovery) -> None:
    files = {
        "one/company/mail/jobs.py": "from company.cloud import name\n" + job("mail"),
        "two/company/cloud/__init__.py": "name = 'cloud'\n",
        "two/company/cloud/jobs.py": job("cloud"),
    }
    assert modules(discover(files, roots=["one", "two"])) == ["company.cloud.jobs", "company.mail.jobs"]


MONOREPO = {
    "apps/api/api/__init__.py": "",
    "apps/api/api/jobs.py": "from shared.text import shout\n" + job("greet"),
    "apps/web/web.py": "raise SystemExit('another project')\n" + job("web"),
    "libs/shared/src/shared/__init__.py": "",
    "libs/shared/src/shared/text.py": "def shout(text): ...\n",
}


def test_a_project_that_shares_a_package_of_its_repository(discover: Discovery) -> None:
    answer = discover(MONOREPO, directory="apps/api", paths=["libs/shared/src"])
    assert names(answer) == ["greet"]
    assert answer["import_paths"] == [".", "../../libs/shared/src"]


def test_functions_of_a_shared_package_are_found_in_a_root_outside_of_the_project(discover: Discovery) -> None:
    files = {**MONOREPO, "libs/shared/src/shared/jobs.py": job("shared")}
    answer = discover(files, directory="apps/api", roots=["libs/shared/src"])
    assert [(one["name"], one["module"], one["file"]) for one in answer["functions"]] == [
        ("greet", "api.jobs", "api/jobs.py"),
        ("shared", "shared.jobs", "../../libs/shared/src/shared/jobs.py"),
    ]


def test_functions_that_the_project_only_imports_from_a_shared_package_are_its_own(discover: Discovery) -> None:
    files = {**MONOREPO, "libs/shared/src/shared/text.py": job("shout")}
    assert modules(discover(files, directory="apps/api", paths=["libs/shared/src"])) == ["api.jobs", "shared.text"]


def test_modules_have_the_names_that_paths_and_editable_installs_give_them(discover: Discovery, tmp_path: Path) -> None:
    finder = """
import importlib.machinery, importlib.util, os, sys
class Finder:
    def find_spec(name, path=None, target=None):
        home = os.path.join(os.getcwd(), "libs/mapped/mapped")
        if name == "mapped":
            return importlib.util.spec_from_file_location(name, home + "/__init__.py")
        return None
sys.meta_path.append(Finder)
"""
    files = {
        "jobs.py": f"import one.jobs, mapped.jobs\n{job()}",
        "libs/one/src/one/jobs.py": job("one"),
        "libs/two/two/jobs.py": job("two"),
        "libs/mapped/mapped/__init__.py": "",
        "libs/mapped/mapped/jobs.py": job("mapped"),
    }
    (tmp_path / "sitecustomize.py").write_text(finder)
    path = f"{PACKAGE.parent}:{tmp_path}:{discover.repository}/libs/one/src"
    answer = discover(files, paths=["libs/two"], PYTHONPATH=path)
    assert modules(answer) == ["jobs", "mapped.jobs", "one.jobs", "two.jobs"]
    assert answer["import_paths"] == [".", "libs/two", "libs/one/src"]


def test_a_package_of_the_tree_that_is_installed_as_a_copy_has_its_installed_name(discover: Discovery) -> None:
    files = {"libs/shared/shared/__init__.py": "", "libs/shared/shared/jobs.py": job("shared")}
    copies = {name.replace("libs/shared", "venv/site-packages"): text for name, text in files.items()}
    files |= {"jobs.py": f"from shared.jobs import shared\n{job()}"}
    path = f"{PACKAGE.parent}:{discover.repository}/venv/site-packages"
    answer = discover(files | copies, PYTHONPATH=path)
    assert modules(answer) == ["jobs", "shared.jobs"]
    assert answer["modules"] == ["jobs", "shared.jobs"]


def test_an_error_in_a_shared_package_names_its_own_place(discover: Discovery) -> None:
    files = {**MONOREPO, "libs/shared/src/shared/text.py": "\n\n1 / 0\n"}
    error = discover(files, directory="apps/api", paths=["libs/shared/src"])["error"]
    assert "../../libs/shared/src/shared/text.py, line 3" in error


def test_a_defer_folder_with_a_file_for_each_function(discover: Discovery) -> None:
    files = {f"shop/{where}/{name}.py": job(name) for where in ("defer", "mail/defer") for name in (where[0] + "one",)}
    assert names(discover({**files, "defer/two.py": job("two")})) == ["done", "mone", "two"]


def test_two_folders_that_are_no_identifiers_hold_modules_of_one_name(discover: Discovery) -> None:
    answer = discover({"app-a/jobs.py": job("a"), "app-b/jobs.py": job("b")})
    assert modules(answer) == ["jobs", "app-b.jobs"]


def test_functions_that_use_each_other(discover: Discovery) -> None:
    files = {
        "shop/one.py": f"{DEFER}from shop.two import two\n@defer\ndef one(): two()\n",
        "shop/two.py": f"{DEFER}@defer\ndef two(): ...\n",
    }
    assert modules(discover(files)) == ["shop.one", "shop.two"]


def test_modules_keep_the_order_they_were_imported_in(discover: Discovery) -> None:
    files = {
        "a.py": f"{DEFER}import z\n@defer\ndef one(): ...\n",
        "z.py": f"{DEFER}import sys\nassert 'a' in sys.modules\n@defer\ndef two(): ...\n",
    }
    assert discover(files)["modules"] == ["a", "z"]


def test_one_function_by_two_names_of_its_module(discover: Discovery) -> None:
    files = {
        "src/shop/jobs.py": job(),
        "src/shop/web.py": f"{DEFER}from src.shop.jobs import job\n@defer\ndef web(): ...\n",
    }
    assert modules(discover(files)) == ["shop.jobs", "shop.web"]


def test_functions_made_by_a_factory_and_in_a_loop(discover: Discovery) -> None:
    source = f"""{DEFER}
def make(name):
    @defer(name=name)
    def made(): ...
    return made
one = make("one")
two = make("two")
for name in ("three", "four"):
    globals()[name] = make(name)
"""
    answer = discover({"jobs.py": source})
    assert [(one["name"], one["attribute"]) for one in answer["functions"]] == [
        (name, name) for name in ("four", "one", "three", "two")
    ]


def test_functions_in_classes(discover: Discovery) -> None:
    source = f"""{DEFER}
class Jobs:
    @staticmethod
    @defer
    def inner(): ...
    class Deep:
        deepest = staticmethod(defer(lambda: 1, name="deepest"))
Same = Jobs
"""
    found = discover({"jobs.py": source})["functions"]
    assert [(one["name"], one["attribute"]) for one in found] == [
        ("deepest", "Jobs.Deep.deepest"),
        ("inner", "Jobs.inner"),
    ]


@pytest.mark.parametrize(
    "method", ["@defer\n    def send(self): ...", "@classmethod\n    @defer\n    def send(cls): ..."]
)
def test_methods_are_refused(discover: Discovery, method: str) -> None:
    error = discover({"jobs.py": f"{DEFER}class Jobs:\n    {method}\n"})["error"]
    assert "Jobs.send (jobs.py, line 3) is a method" in error and "@staticmethod" in error


def test_manage_py_makes_a_root_of_a_folder_that_looks_like_a_package(discover: Discovery) -> None:
    files = {"site/__init__.py": "", "site/manage.py": "", "site/shop/__init__.py": "", "site/shop/jobs.py": job()}
    assert modules(discover(files)) == ["shop.jobs"]


def test_names_that_hide_each_other(discover: Discovery) -> None:
    error = discover({"jobs.py": job(), "src/jobs.py": ""})["error"]
    assert error == "jobs.py cannot be imported: `jobs` is src/jobs.py; rename the file"


@pytest.mark.parametrize("name", ["queue.py", "types.py", "email/jobs.py"])
def test_names_of_pythons_own_modules(discover: Discovery, name: str) -> None:
    error = discover({name: job()})["error"]
    assert error.startswith(f"{name} cannot be imported: `") and "a module of Python's own; rename the file" in error


def test_a_module_that_hides_pythons_own(discover: Discovery) -> None:
    files = {"jobs.py": f"import sched\nsched.scheduler\n{job()}", "sched.py": ""}
    assert "sched.py hides Python's own module of that name: rename it" in discover(files)["error"]


@pytest.mark.parametrize("folder", ["scripts", "bin", "docs", "tests", "shop/migrations"])
def test_folders_that_are_not_searched_can_be_named(discover: Discovery, folder: str) -> None:
    files = {f"{folder}/jobs.py": job()}
    error = discover(files)["error"]
    assert f'name {folder}/jobs.py, which is not searched by itself: [build] functions = ["{folder}/jobs.py"]' in error
    assert names(discover(files, [f"{folder}/jobs.py"])) == ["job"]
    assert names(discover(files, [folder])) == ["job"]


def test_a_scripts_folder_inside_of_a_package_is_searched(discover: Discovery) -> None:
    assert modules(discover({"shop/scripts/jobs.py": job()})) == ["shop.scripts.jobs"]


def test_aliases_are_passed_on(discover: Discovery) -> None:
    source = f"{DEFER}@defer\ndef job(): ...\njob.__metadata__['aliases'] = ['send', 'mail']\n"
    [found] = discover({"jobs.py": source})["functions"]
    assert found["aliases"] == ["send", "mail"]
