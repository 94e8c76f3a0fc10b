"""Every example as an environment of one server: built, called, built again after a commit, with the times it took."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from deferlite.builder.layout import Layout, is_complete
from tests.examples.projects import Example, change, environment_file, prepare, read_examples
from tests.support import Repository, Server

BUILDS = 2
"""Builds at once."""
LOCKS = 2
"""Locks made at once, beside the builds."""
LOG_TAIL = 15
"""Lines of a failed build's log that are shown."""


@dataclass
class Row:
    """One environment; times in seconds, None where it did not come to that."""

    environment: str
    installed_from: str
    python: str = ""
    cold: float | None = None
    warm: float | None = None
    live: float | None = None
    """From the end of ``git commit`` to the build being live, with nothing else going on."""
    execution: float | None = None
    """From the enqueue to the result, of the first one."""
    fault: str = ""
    lacks: str | None = None
    """What the example needs and this machine has not: a fault is no wonder then."""


@dataclass
class Report:
    rows: list[Row] = field(default_factory=list)
    dependency_sets: int = 0
    """Shared ones, on disk after the first builds."""
    private: int = 0
    """Environments that share none, as they install from their own tree."""
    seconds: float = 0.0

    @property
    def lives(self) -> list[float]:
        return [row.live for row in self.rows if row.live is not None]

    @property
    def median_live(self) -> float:
        return statistics.median(self.lives or [0.0])

    @property
    def worst_live(self) -> Row | None:
        return max((row for row in self.rows if row.live is not None), key=lambda row: row.live or 0.0, default=None)

    @property
    def faults(self) -> list[Row]:
        return [row for row in self.rows if row.fault and not row.lacks]

    @property
    def skipped(self) -> dict[str, str]:
        """What the machine lacks for an environment, by its name."""
        return {row.environment: row.lacks for row in self.rows if row.fault and row.lacks}


class Measurement:
    """One server with the chosen examples. ``rows`` are in the order of examples/README.md."""

    def __init__(self, server: Server, folder: Path, examples: Collection[Example]) -> None:
        self.server = server
        self.folder = folder
        self.examples = examples
        self.rows = {
            name: Row(name, example.installed_from, lacks=example.lacks)
            for example in examples
            for name in example.environments
        }
        self.repositories: dict[str, Repository] = {}

    def run(self) -> Report:
        started = time.monotonic()
        self._build_all()
        self._call_all()
        home = self.server.home
        report = Report(list(self.rows.values()), len(dependency_sets(home)), _count_private(home))
        for example in self.examples:
            self._rebuild(example)
        report.seconds = time.monotonic() - started
        return report

    def _build_all(self) -> None:
        """Locks are made while the first projects are built already."""
        with ThreadPoolExecutor(LOCKS) as pool:
            waiting = [(example, pool.submit(self._start, example)) for example in _unlocked_first(self.examples)]
            for example, starting in waiting:
                self._finish(example, starting)

    def _start(self, example: Example) -> None:
        repository = self.repositories[example.name] = prepare(example, self.folder)
        for name, text in example.environments.items():
            self.server.add(name, environment_file(text, repository))

    def _finish(self, example: Example, starting: Future[None]) -> None:
        try:
            starting.result()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            for name in example.environments:
                self._fail(self.rows[name], str(error))
            return
        for name in example.environments:
            self._built(self.rows[name])

    def _built(self, row: Row) -> None:
        build = self.server.until_built(row.environment)
        log = self._log(build)
        row.cold = _seconds(build)
        python = re.search(r"CPython (\d+\.\d+)", log)
        row.python = python[1] if python else "?"
        self._judge(row, build, log)
        if not row.fault and not _says(log, row.installed_from):
            self._fail(row, f"not installed from {row.installed_from}:\n{_tail(log)}")
        if not row.fault:
            _say(f"{row.environment} is built in {row.cold:.1f} s")

    def _judge(self, row: Row, build: dict[str, Any], log: str) -> None:
        if build["state"] != "succeed":
            self._fail(row, f"the build failed: {build['error']}\n{_tail(log)}")

    def _call_all(self) -> None:
        for example in self.examples:
            for name in example.environments:
                if not self.rows[name].fault:
                    self.rows[name].execution = self._call(example, name)

    def _call(self, example: Example, environment: str) -> float:
        """Run the README's call; returns the seconds to its result."""
        call = example.call(environment)
        client = self.server.client(environment)
        started = time.perf_counter()
        got = client.call(call.function, *call.arguments, keyword_arguments=call.keywords)
        seconds = time.perf_counter() - started
        if got != ("succeed", call.expected):
            self._fail(self.rows[environment], f"{call.function} ended as {got!r}, not with {call.expected!r}")
        return seconds

    def _rebuild(self, example: Example) -> None:
        """Commit once, alone on the machine, and wait for the example's environments."""
        rows = [self.rows[name] for name in example.environments if not self.rows[name].fault]
        if not rows:
            return
        commit = change(example, self.repositories[example.name])
        committed = time.time()
        for row in rows:
            build = self.server.until_built(row.environment, commit)
            row.warm = _seconds(build)
            row.live = datetime.fromisoformat(build["finished_at"]).timestamp() - committed
            self._judge(row, build, self._log(build))
            if not row.fault:
                self._call(example, row.environment)
                _say(f"{row.environment}: a commit is live after {row.live:.2f} s")

    def _log(self, build: dict[str, Any]) -> str:
        with self.server.admin() as admin:
            answer = admin.get(f"/builds/{build['id']}/logs")
        return "\n".join(json.loads(line)["text"] for line in answer.text.splitlines())

    def _fail(self, row: Row, fault: str) -> None:
        row.fault = fault
        _say(f"{row.environment}: {fault}")


def _unlocked_first(examples: Iterable[Example]) -> list[Example]:
    """The builds have something to do at once, and the locks are made meanwhile."""
    return sorted(examples, key=lambda example: bool(example.commands))


def _says(log: str, installed_from: str) -> bool:
    said = {"nothing": "no dependencies", "[build] install": "[build] install replaces"}
    wanted = said.get(installed_from, f"dependencies come from {installed_from}")
    return re.search(rf"^{re.escape(wanted)}\b", log, re.MULTILINE) is not None


def _seconds(build: dict[str, Any]) -> float:
    started, finished = (datetime.fromisoformat(build[key]) for key in ("started_at", "finished_at"))
    return (finished - started).total_seconds()


def _tail(log: str) -> str:
    return "\n".join(f"    {line}" for line in log.splitlines()[-LOG_TAIL:])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def dependency_sets(home: Path) -> set[str]:
    """The keys of the sets of installed dependencies on disk that environments share."""
    return {folder.name for folder in Layout(home).all_dependencies.glob("*") if is_complete(folder)}


def _count_private(home: Path) -> int:
    return len({venv.parts[-3] for venv in Layout(home).builds.glob("*/*/venv")})


@contextmanager
def measured(folder: Path, only: Collection[str] = ()) -> Iterator[tuple[Server, Report]]:
    """All examples, or those whose names are given, measured below ``folder`` by a server that goes on meanwhile."""
    chosen = [example for example in read_examples().values() if not only or example.name in only]
    with Server(folder / "home", "--builds", str(BUILDS), "--log-level", "warning") as server:
        yield server, Measurement(server, folder / "repositories", chosen).run()
