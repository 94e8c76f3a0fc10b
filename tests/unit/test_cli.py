"""The command line without a server: usage, exit codes, and the commands that work on files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deferlite.cli.app import COMMANDS, cli

IDENTITY = ("-c", "user.name=A developer", "-c", "user.email=developer@localhost")
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("DEFERLITE_HOME", "DEFERLITE_ENVIRONMENTS"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


def run(*words: str, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(cli, words, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def checkout(path: Path, *, commit: bool = True) -> Path:
    path.mkdir(parents=True)
    (path / "jobs.py").write_text("")
    commands: list[tuple[str, ...]] = [("init", "--quiet", "--initial-branch=trunk")]
    if commit:
        commands += [("add", "--all"), (*IDENTITY, "commit", "--quiet", "--message=first")]
    for command in commands:
        subprocess.run(("git", *command), cwd=path, check=True)
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--home" in result.stdout or name in ("execution", "token")


def test_the_help_lists_all_commands() -> None:
    listed = run("--help").stdout
    assert all(f"\n  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ("environments",),
        ("builds", "staging"),
        ("builds", "logs", ID),
        ("builds", "show", "staging#2"),
        ("builds", "cancel", ID),
        ("functions", "staging"),
        ("executions", "staging"),
        ("build", "staging"),
        ("build", "staging", "--commit", "c0ffee", "--wait"),
        ("build", "cancel", "staging"),
        ("rollback", "staging"),
        ("rollback", "staging", "--resume"),
        ("promote", "staging"),
        ("enqueue", "staging", "greet"),
        ("execution", "show", ID),
        ("execution", "logs", ID),
        ("execution", "cancel", ID),
        ("execution", "rerun", ID),
        ("execution", "reschedule", ID),
        ("token", "create", "staging"),
        ("token", "list", "staging"),
        ("token", "revoke", "staging", ID),
        ("open",),
    ],
)
def test_without_a_server_the_exit_code_is_3(home: Path, words: tuple[str, ...]) -> None:
    result = run(*words, "--home", str(home))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert f"no deferlite server at {home}: start one with `deferlite serve --home {home}`" in result.stderr


def test_the_home_may_come_from_the_environment(home: Path) -> None:
    assert str(home) in run("environments", env={"DEFERLITE_HOME": str(home)}).stderr


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("environment",),
        ("builds",),
        ("builds", "a", "b", "c"),
        ("builds", "logs", "Staging"),
        ("builds", "../status"),
        ("builds", "show", "Staging#1"),
        ("builds", "cancel", "staging#two"),
        ("build", "Staging"),
        ("build", "staging", "production"),
        ("build", "cancel", "staging", "--wait"),
        ("rollback", "staging", "2", "--resume"),
        ("promote", "staging", "two"),
        ("execution", "show", "7"),
        ("functions", "../status"),
        ("token", "create", "Staging"),
        ("executions", "staging", "--state", "runing"),
        ("executions", "staging", "--metadata", "user"),
        ("executions", "staging", "--limit", "0"),
        ("enqueue", "staging"),
        ("enqueue", "staging", "greet", "Ada"),
        ("enqueue", "staging", "greet", "NaN"),
        ("enqueue", "staging", "greet", "--keyword", "name=Ada"),
        ("enqueue", "staging", "greet", "--delay", "soon"),
        ("enqueue", "staging", "greet", "--priority", "101"),
        ("token", "revoke", "staging", "7"),
        ("serve", "--port", "many"),
    ],
)
def test_wrong_usage_is_2(home: Path, words: tuple[str, ...]) -> None:
    result = run(*words, *(("--home", str(home)) if words else ()))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_a_home_that_cannot_be_is_a_sentence() -> None:
    home = "/proc/deferlite-home"
    deferlite = Path(sys.executable).parent / "deferlite"
    done = subprocess.run([str(deferlite), "serve", "--home", home], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{home} cannot be the home: " in done.stderr and "Traceback" not in done.stderr


def test_an_argument_that_is_not_json_is_shown_with_its_cure(home: Path) -> None:
    result = run("enqueue", "staging", "greet", "1", "Ada", "--home", str(home))
    assert "argument 2: 'Ada' is not JSON; for a text write '\"Ada\"'" in result.stderr


def test_init_finds_everything_out(home: Path, tmp_path: Path) -> None:
    project = checkout(tmp_path / "My Shop")
    result = run("init", str(project), "--home", str(home))
    file = home / "environments" / "my-shop.toml"
    assert (result.exit_code, result.stdout) == (0, f"{file}\n")
    assert f'repository = "{project}"' in file.read_text()
    assert '# branch = "trunk"' in file.read_text()
    assert run("check", str(file)).exit_code == 0


def test_init_in_a_folder_of_the_repository(home: Path, tmp_path: Path) -> None:
    project = checkout(tmp_path / "shop")
    api, docs = project / "apps" / "api", project / "docs"
    for folder in (api, docs):
        folder.mkdir(parents=True)
    (api / "pyproject.toml").write_text("")
    run("init", str(api), "--home", str(home))
    assert 'directory = "apps/api"' in (home / "environments" / "api.toml").read_text()
    run("init", str(docs), "--home", str(home), "--name", "whole")
    assert "directory" not in (home / "environments" / "whole.toml").read_text()


def test_init_overwrites_nothing(home: Path, tmp_path: Path) -> None:
    project = checkout(tmp_path / "shop", commit=False)
    first = run("init", str(project), "--home", str(home))
    assert "no commit yet" in first.stderr
    again = run("init", str(project), "--home", str(home))
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_init_outside_a_checkout_says_what_to_do(home: Path, tmp_path: Path) -> None:
    result = run("init", str(tmp_path), "--home", str(home))
    assert result.exit_code == 1
    assert "git" in result.stderr
    assert not home.exists()


def test_init_refuses_a_name_that_is_none(home: Path, tmp_path: Path) -> None:
    project = checkout(tmp_path / "shop")
    assert run("init", str(project), "--home", str(home), "--name", "…").exit_code == 2


def test_check_shows_every_fault_with_its_line(home: Path) -> None:
    folder = home / "environments"
    folder.mkdir(parents=True)
    (folder / "good.toml").write_text('repository = "/srv/shop"\n')
    (folder / "bad.toml").write_text('repository = "/srv/shop"\npool = "30s"\n[run]\nmemory = "lots"\n')
    result = run("check", "--home", str(home))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert f"{folder / 'good.toml'}: good" in lines
    assert any(line.startswith(f"{folder / 'bad.toml'}:2: pool: ") for line in lines)
    assert any(line.startswith(f"{folder / 'bad.toml'}:4: run.memory: ") for line in lines)
    assert run("check", str(folder / "good.toml")).exit_code == 0
    shown = json.loads(run("check", "--json", str(folder / "bad.toml")).stdout)
    assert [fault["line"] for fault in shown[0]["faults"]] == [2, 4]


def test_check_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "nothing.toml"))
    assert result.exit_code == 1
    assert "does not exist" in result.stdout


def test_check_tells_what_is_not_yet(tmp_path: Path) -> None:
    file = tmp_path / "staging.toml"
    file.write_text('repository = "/srv/shop"\n[notify]\nslack = "https://hooks.example.org/T0"\n')
    result = run("check", str(file))
    assert result.exit_code == 0
    assert "not yet" in result.stderr


def test_doctor_finds_what_is_needed(home: Path) -> None:
    result = run("doctor", "--json", "--home", str(home))
    found: dict[str, dict[str, Any]] = {each["name"]: each for each in json.loads(result.stdout)}
    assert result.exit_code == (1 if any(each["verdict"] == "bad" for each in found.values()) else 0)
    assert found["git"]["verdict"] == "good"
    assert found["uv"]["verdict"] == "good"
    assert "{}.{}.{}".format(*sys.version_info) in found["builds use"]["detail"]
    assert os.path.realpath(sys.executable) in found["builds use"]["detail"]
    assert {"sandbox", "cgroups", "node", "disk", "clock", "time zones", "sqlite", "python"} <= found.keys()
    assert "git" in run("doctor", "--home", str(home)).stdout


def test_doctor_fails_with_an_uv_that_does_not_run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "uv"
    broken.write_text("#!/bin/false\n")
    broken.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(broken))
    result = run("doctor", "--home", str(home))
    assert result.exit_code == 1
    assert f"{broken} does not run" in result.stdout and "uv" in result.stderr


def test_doctor_fails_without_git(home: Path, tmp_path: Path) -> None:
    result = run("doctor", "--home", str(home), env={"PATH": str(tmp_path)})
    assert result.exit_code == 1
    assert "git" in result.stderr


def test_a_command_loads_only_what_it_needs() -> None:
    """``enqueue`` starts quickly: neither the web framework nor the server is imported for it."""
    code = (
        "import sys, deferlite.cli.app as app\n"
        "app.cli.get_command(None, 'enqueue')\n"
        "heavy = ('starlette', 'uvicorn', 'jinja2', 'aiosqlite', 'deferlite.server')\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_without_the_extra_it_says_how_to_get_it() -> None:
    code = (
        "import importlib.util as util, sys\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'click' else found(name, *more)\n"
        "sys.argv = ['deferlite', 'serve']\n"
        "import deferlite.cli\n"
        "deferlite.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'pip install "deferlite[server]"' in done.stderr
    assert done.stdout == ""
