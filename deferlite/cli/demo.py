"""``deferlite demo``: a project of its own, two environments, real executions, and the page to look at."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import click

from deferlite.builder.layout import remove_tree
from deferlite.bus import Bus
from deferlite.cli.serve import configure_logging
from deferlite.model.build import BuildState
from deferlite.model.errors import DeferliteError
from deferlite.model.events import BuildChanged
from deferlite.model.execution import NewExecution, State
from deferlite.sandbox.process import output
from deferlite.server import Running, serve
from deferlite.settings import Settings
from deferlite.store import Store

PROJECT = Path(__file__).parent / "demo_project"
ENVIRONMENTS = {"production": "main", "staging": "staging"}
CALLS = (
    ("greet", '["world"]'),
    ("charge", "[1017, 42.5]"),
    ("resize", '["cat.jpg"]'),
    ("publish_album", '[["beach.jpg", "dunes.jpg", "sunset.jpg"]]'),
)


async def run_demo(settings: Settings) -> None:
    """Serve the demo until a signal; executions that do not succeed end it with an error.

    Raises:
        DeferliteError: the server cannot start, or a build or an execution of the demo failed.
    """
    repository = settings.home / "shop"
    await anyio.to_thread.run_sync(partial(shutil.copytree, PROJECT, repository, dirs_exist_ok=True))
    await _commit_project(repository)
    await anyio.to_thread.run_sync(_write_environments, settings.environments, repository)
    await serve(settings, on_ready=partial(_show, repository))


async def _commit_project(repository: Path) -> None:
    identity = ("-c", "user.name=deferlite", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        (*identity, "commit", "--quiet", "--message=A small shop"),
        ("branch", "staging"),
    ):
        await output(("git", *arguments), cwd=repository)


def _write_environments(folder: Path, repository: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, branch in ENVIRONMENTS.items():
        (folder / f"{name}.toml").write_text(f'repository = "{repository}"\nbranch = "{branch}"\n')


async def _show(repository: Path, running: Running) -> None:
    click.echo("building production and staging …")
    async with anyio.create_task_group() as group:
        for environment in ENVIRONMENTS:
            group.start_soon(_exercise, running, environment)
    click.echo(f"\nThe status page:  {running.page}\n")
    click.echo(f"Change {repository}/jobs/shop.py and commit: the new code is live within a second or two.")
    click.echo("Ctrl-C ends the demo.")


async def _exercise(running: Running, environment: str) -> None:
    await _until_built(running.store, running.bus, environment)
    items = [NewExecution(function_name=name, arguments=arguments) for name, arguments in CALLS]
    for enqueued in await running.store.executions.enqueue(environment, items):
        ended = await running.store.executions.wait_ended(enqueued.id, 60)
        result = await running.store.executions.result(enqueued.id)
        click.echo(f"{environment:<11} {ended.function_name:<14} {ended.state}, attempt {ended.attempt}: {result}")
        if ended.state is not State.SUCCEED:
            raise DeferliteError(f"the demo's {ended.function_name} {ended.state}: {result}")


async def _until_built(store: Store, bus: Bus, environment: str) -> None:
    with bus.subscribe(BuildChanged) as changes:
        while True:
            builds = await store.builds.list(environment, limit=1)
            if builds and builds[0].state is BuildState.FAILED:
                raise DeferliteError(f"the demo's {environment} could not be built: {builds[0].error}")
            if builds and builds[0].state is BuildState.SUCCEED:
                return
            await changes.receive()


@click.command()
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), help="Keep it here; default a temporary folder."
)
@click.option("--address", default="127.0.0.1", show_default=True)
@click.option("--port", default=3337, show_default=True, type=click.IntRange(0, 65535))
def command(home: Path | None, address: str, port: int) -> None:
    """Make a small project with two environments, serve it, run it, and print the page's address."""
    with ExitStack() as stack:
        if home is None:
            folder = tempfile.mkdtemp(prefix="deferlite-demo-")
            stack.callback(anyio.run, remove_tree, Path(folder))
            home = Path(folder)
        flags = {"home": str(home), "address": address, "port": port, "log_level": "warning"}
        settings = Settings.load(flags, {})
        configure_logging(settings.log_level)
        anyio.run(run_demo, settings, backend_options={"use_uvloop": True})
