"""What the READMEs of ``examples/`` say: environment files, commands that make locks, calls with their results."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import Repository, clean_environ, is_there

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTSIDE = ("misbehaving",)
"""Folders that are no environment of the table."""
MADE = ("__pycache__", ".venv", "uv.lock", "pylock.toml", "Pipfile.lock", "*.egg-info", "build")
"""Never copied: what a developer's own try left in the tree."""
REPOSITORY = "/path/to/this/repository"
LOCK_SECONDS = 120.0
NEEDS = {"python-version": "Python 3.12", "runtime-txt": "Python 3.13", "c-extension": "cc"}
"""What an example cannot do without, and a build cannot always fetch."""


@dataclass(frozen=True)
class Call:
    """One ``deferlite enqueue … --wait`` of a README and the result below it."""

    line: str
    environment: str
    function: str
    arguments: list[Any]
    keywords: dict[str, Any]
    expected: Any

    def __str__(self) -> str:
        return f"{self.environment}-{self.function}"


@dataclass(frozen=True)
class Example:
    name: str
    installed_from: str
    """The file that decides about the dependencies, as the table of examples/README.md has it."""
    environments: dict[str, str]
    """The text of each environment file."""
    commands: tuple[list[str], ...]
    """What makes the lock."""
    calls: tuple[Call, ...]

    @property
    def lacks(self) -> str | None:
        """What it needs and this machine has not; in CI nothing is skipped."""
        need = None if os.environ.get("CI") else NEEDS.get(self.name)
        return need if need and not is_there(need) else None

    @property
    def folder(self) -> Path:
        return EXAMPLES / self.name

    def call(self, environment: str) -> Call:
        """The first call of this environment."""
        return next(call for call in self.calls if call.environment == environment)


def read_examples() -> dict[str, Example]:
    """Every example of the table, in its order."""
    rows = re.findall(r"^\| \[([\w-]+)\]\(\1/\) \| `?(.*?)`? \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    return {name: _read(name, installed_from) for name, installed_from in rows if name not in OUTSIDE}


def _read(name: str, installed_from: str) -> Example:
    environments, commands, calls = {}, [], []
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", (EXAMPLES / name / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for number, (language, text) in enumerate(blocks):
        if language == "toml":
            titled = re.match(r"# environments/([\w-]+)\.toml\n", text)
            environments[titled[1] if titled else name] = text
        elif language == "sh" and text.startswith("deferlite enqueue "):
            assert blocks[number + 1][0] == "json", f"{name}: a call has its result below it"
            calls.append(_call(text, json.loads(blocks[number + 1][1])))
        elif language == "sh":
            commands += [shlex.split(line) for line in text.splitlines()]
    return Example(name, installed_from, environments, tuple(commands), tuple(calls))


def _call(line: str, expected: Any) -> Call:
    _, _, environment, function, *rest, last = shlex.split(line)
    assert last == "--wait", line
    keywords: dict[str, Any] = {}
    while "-k" in rest:
        at = rest.index("-k")
        name, _, value = rest[at + 1].partition("=")
        keywords[name] = json.loads(value)
        del rest[at : at + 2]
    return Call(line, environment, function, [json.loads(word) for word in rest], keywords, expected)


def prepare(example: Example, below: Path) -> Repository:
    """A repository of its own with the example where its environment files look for it, locked and committed."""
    project = below / example.name / "examples" / example.name
    shutil.copytree(example.folder, project, ignore=shutil.ignore_patterns(*MADE))
    for command in example.commands:
        _run(example, command, project)
    # A tool may have made an environment on its way.
    shutil.rmtree(project / ".venv", ignore_errors=True)
    return Repository(below / example.name, {})


def _run(example: Example, command: list[str], project: Path) -> None:
    # Builds see neither the settings of this user's pip, which Pipenv puts into its lock, nor this virtual environment.
    own = {"PIP_CONFIG_FILE": os.devnull, "PIPENV_IGNORE_VIRTUALENVS": "1", "PIPENV_VENV_IN_PROJECT": "1"}
    environ = clean_environ(**own, NO_COLOR="1")
    done = subprocess.run(
        command,
        cwd=project,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LOCK_SECONDS,
    )
    assert done.returncode == 0, f"{example.name}: `{shlex.join(command)}` failed:\n{done.stdout[-2000:]}"


def environment_file(text: str, repository: Repository) -> str:
    return text.replace(REPOSITORY, str(repository.path))


def change(example: Example, repository: Repository) -> str:
    """A commit that changes a module of every project of the example and no lock; returns it."""
    for module in sorted(_modules(repository.path)):
        module.write_text(module.read_text() + "\n# changed\n")
    return repository.commit("A comment", {})


def _modules(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        if re.search(r"^from deferlite import", path.read_text(), re.MULTILINE):
            yield path
