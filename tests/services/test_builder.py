"""Projects become live builds: kinds, layouts, sources, and what is shared between builds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uv

from deferlite.builder.runtimes.interpreters import Interpreters
from deferlite.model.build import BuildState
from deferlite.model.errors import NotFound
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.support import missing

pytestmark = pytest.mark.anyio
PROJECT = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["six"]\n'
USES_SIX = "import six\n" + job()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


async def test_a_project_without_dependencies(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"jobs.py": job()}))
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert [step.state.value for step in build.steps] == [
        "started",
        "cloning",
        "installing",
        "compiling",
        "publishing",
    ]
    assert all(step.finished_at is not None for step in build.steps)
    assert await shop.live() == build.id
    assert await shop.functions(build) == ["job"]
    assert shop.folder(build).manifest.exists()
    assert not shop.folder(build).scratch.exists()
    assert "found 1: job" in await shop.log(build)


async def test_requirements(shop: Workshop) -> None:
    files = {"requirements.txt": "-r more.txt\ndeferlite>=0.1\n", "more.txt": "six==1.17.0\n", "jobs.py": USES_SIX}
    build = await shop.build(shop.repository(files))
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert "six==1.17.0" in await shop.log(build)


async def test_pyproject_that_lists_deferlite_and_installs_itself(shop: Workshop) -> None:
    files = {
        "pyproject.toml": PROJECT.replace('["six"]', '["six", "deferlite"]')
        + '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        "src/shop/__init__.py": "",
        "src/shop/jobs.py": "from shop import names\n" + USES_SIX,
        "src/shop/names.py": "",
    }
    build = await shop.build(shop.repository(files))
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    plan = await shop.launch(build)
    assert plan.import_paths == (plan.project / "src", plan.project / ".", shop.folder(build).metadata)
    assert plan.modules == ("shop.jobs",)


async def test_a_lock_of_uv(shop: Workshop) -> None:
    files = {"pyproject.toml": PROJECT, "jobs.py": USES_SIX, "requirements.txt": "nosuchpackage\n"}
    repository = shop.repository(files)
    lock(repository.path)
    repository.commit("a lock", {})
    build = await shop.build(repository)
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert "dependencies come from uv.lock; not used: requirements.txt" in await shop.log(build)


async def test_a_stale_lock_says_how_it_is_refreshed(shop: Workshop) -> None:
    repository = shop.repository({"pyproject.toml": PROJECT, "jobs.py": USES_SIX})
    lock(repository.path)
    repository.commit("a new dependency", {"pyproject.toml": PROJECT.replace('"six"', '"six", "toml"')})
    build = await shop.build(repository)
    assert build.state is BuildState.FAILED
    assert build.error is not None and "run `uv lock` and commit uv.lock" in build.error


def lock(project: Path) -> None:
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=project, check=True)


async def test_an_install_command_of_the_file(shop: Workshop) -> None:
    install = "touch $VIRTUAL_ENV/mine && python -c 'import sys; assert sys.prefix.endswith(\"venv\")'"
    repository = shop.repository({"jobs.py": job(), "requirements.txt": "nosuchpackage\n"})
    build = await shop.build(repository, install=install)
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert (shop.folder(build).private_venv / "mine").exists()


async def test_a_second_commit_uses_the_same_dependencies(shop: Workshop) -> None:
    repository = shop.repository({"requirements.txt": "six\n", "jobs.py": USES_SIX})
    first = await shop.build(repository)
    repository.commit("a change", {"jobs.py": USES_SIX.replace("def job", "def renamed")})
    second = await shop.build(repository)
    assert (second.state, second.error) == (BuildState.SUCCEED, None)
    assert await shop.functions(second) == ["renamed"]
    log = await shop.log(second)
    assert "dependencies are unchanged" in log and "uv " not in log
    assert (await shop.launch(first)).interpreter == (await shop.launch(second)).interpreter


async def test_two_environments_share_dependencies_and_not_the_package_cache(shop: Workshop) -> None:
    repository = shop.repository({"requirements.txt": "six\n", "jobs.py": USES_SIX})
    one = await shop.build(repository, "one")
    two = await shop.build(repository, "two")
    assert (await shop.launch(one)).interpreter == (await shop.launch(two)).interpreter
    assert len(list((shop.layout.cache / "dependencies").iterdir())) == 1
    assert not (shop.layout.uv_cache("two") / "archive-v0").exists()


async def test_another_python(shop: Workshop) -> None:
    known = await Interpreters(shop.layout).known()
    others = [one for one in known if (3, 10) <= one.version < (3, 99) and one.version[:2] != sys.version_info[:2]]
    if not others:
        missing("another Python")
    repository = shop.repository({"jobs.py": job(), "requirements.txt": "six\n"})
    for one in {one.version[:2]: one for one in others}.values():
        build = await shop.build(repository, python="{}.{}".format(*one.version))
        assert (build.state, build.error) == (BuildState.SUCCEED, None)
        assert (await shop.manifest(build)).interpreter.startswith("CPython {}.{}.".format(*one.version))


async def test_a_subfolder(shop: Workshop) -> None:
    files = {"apps/api/jobs.py": "from pathlib import Path\nPath('../../shared.txt').read_text()\n" + job()}
    repository = shop.repository({**files, "shared.txt": "", "other/jobs.py": job("other")})
    build = await shop.build(repository, directory="apps/api")
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert await shop.functions(build) == ["job"]
    plan = await shop.launch(build)
    assert plan.project == shop.folder(build).source / "apps" / "api"


async def test_prebuild_runs_after_the_install_with_the_variables_of_the_file(shop: Workshop) -> None:
    (shop.tmp_path / "secret").write_text("from a file\n")
    prebuild = 'python -c \'import six\' && printf \'A = "%s"\\nB = "%s"\' "$GIVEN" "$READ" > generated.py'
    repository = shop.repository({"requirements.txt": "six\n", "jobs.py": "from generated import A, B\n" + job()})
    build = await shop.build(
        repository, prebuild=prebuild, env={"GIVEN": "plain", "READ": {"file": str(shop.tmp_path / "secret")}}
    )
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert BuildState.GENERATING in [step.state for step in build.steps]
    written = (shop.folder(build).source / "generated.py").read_text()
    assert written == 'A = "plain"\nB = "from a file"'
    assert (await shop.launch(build)).environment["READ"] == "from a file"


async def test_uv_is_there_for_the_commands_of_the_file(shop: Workshop) -> None:
    build = await shop.build(
        shop.repository({"jobs.py": job()}), prebuild="uv --version", env={"PATH": "/usr/bin:/bin"}
    )
    assert build.error is None and "\nuv 0." in await shop.log(build)


async def test_nothing_of_the_server_reaches_a_build(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("DEFER_TOKEN", "hush")
    repository = shop.repository({"jobs.py": job()})
    build = await shop.build(repository, prebuild="env; ls $HOME; ls -d ../../../../* || true")
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    log = await shop.log(build)
    assert "hush" not in log
    if shop.status.bwrap is not None:
        assert "deferlite.db" not in log


async def test_a_remote_repository_is_mirrored_once(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    url = f"file://{repository.path}"
    await shop.environment(url)
    # As the watcher asks for it: a remote repository's list of branches has no subjects.
    first = await shop.ended(await shop.request(repository.git("rev-parse", "HEAD"), message=""))
    assert (first.state, first.error, first.message) == (BuildState.SUCCEED, None, "first commit")
    commit = repository.commit("more", {"more.py": job("more")})
    second = await shop.ended(await shop.request(commit))
    assert await shop.functions(second) == ["job", "more"]
    again = await shop.ended(await shop.request(commit))
    assert "fetching from" in await shop.log(second) and "fetching from" not in await shop.log(again)


async def test_a_worktree_as_it_stands(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job(), ".gitignore": "*.log\nlocal/\n", "gone.py": ""})
    repository.write({"new.py": job("new"), "big.log": "", "local/jobs.py": job("ignored")})
    (repository.path / "gone.py").unlink()
    (repository.path / "link.py").symlink_to("nowhere.py")
    build = await shop.build(repository, worktree=True)
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert await shop.functions(build) == ["job", "new"]
    assert not (shop.folder(build).source / "big.log").exists()


async def test_bare_and_linked_repositories(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    repository.git("clone", "--quiet", "--bare", ".", str(shop.tmp_path / "bare.git"))
    repository.git("worktree", "add", "--quiet", str(shop.tmp_path / "linked"), "-b", "other")
    commit = repository.git("rev-parse", "HEAD")
    for place in ("bare.git", "linked"):
        await shop.environment(str(shop.tmp_path / place))
        build = await shop.ended(await shop.request(commit))
        assert (build.state, build.error) == (BuildState.SUCCEED, None), place


async def test_hooks_filters_and_configuration_of_the_repository_run_nothing(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job(), ".gitattributes": "*.py filter=evil\n"})
    trap = f"touch {shop.tmp_path}/ran; cat"
    for key in ("filter.evil.smudge", "filter.evil.process", "core.fsmonitor", "core.sshCommand"):
        repository.git("config", key, trap)
    hook = repository.path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{trap}\n")
    hook.chmod(0o755)
    (shop.tmp_path / "ran").unlink(missing_ok=True)
    build = await shop.build(repository)
    assert (build.state, build.error) == (BuildState.SUCCEED, None)
    assert not (shop.tmp_path / "ran").exists()


async def test_the_tree_of_a_published_build_is_read_only(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"jobs.py": job(), "run.sh": "#!/bin/sh\n"}))
    modes = {path.name: path.stat().st_mode & 0o222 for path in shop.folder(build).source.iterdir() if path.is_file()}
    assert set(modes.values()) == {0}


async def test_a_build_whose_files_are_gone_says_so(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"jobs.py": job()}))
    shop.folder(build).source.rename(shop.tmp_path / "elsewhere")
    with pytest.raises(NotFound, match="build the environment again"):
        await shop.launch(build)


async def test_the_log_is_there_while_the_build_runs(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    await shop.environment(repository, prebuild="echo waiting; while ! [ -e go ]; do sleep 0.05; done")
    build = await shop.request(repository.git("rev-parse", "HEAD"))

    async def waiting() -> bool:
        return "\nwaiting" in await shop.log(build)

    await shop.eventually(waiting)
    assert (await shop.store.builds.get(build.id)).state is BuildState.GENERATING
    (shop.folder(build).source / "go").touch()
    assert (await shop.ended(build)).state is BuildState.SUCCEED


async def test_old_builds_are_removed(shop: Workshop) -> None:
    repository = shop.repository({"jobs.py": job()})
    builds = []
    for number in range(4):
        repository.commit(f"change {number}", {})
        builds.append(await shop.build(repository, retention_builds=2))
    # The fourth build started after the third had been tidied up.
    assert not shop.folder(builds[0]).path.exists()
    assert all(shop.folder(build).manifest.exists() for build in builds[2:])
