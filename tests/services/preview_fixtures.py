"""A base environment with previews, and what tests of them wait for."""

from __future__ import annotations

from deferlite.model.build import Build, BuildState
from deferlite.model.environment import Environment, Preview
from deferlite.model.function import FunctionSpec, Manifest
from tests.services.watcher_fixtures import Repository, Watched

SETTINGS = 'branches = ["feature/*"]\n'


def write_base(watched: Watched, repository: Repository, preview: str = SETTINGS, more: str = "") -> None:
    watched.write("shop", repository.path, f'branch = "main"\n{more}[preview]\n{preview}')


async def previews(watched: Watched, retired: bool = False) -> dict[str, Environment]:
    """By branch the active ones; with ``retired`` also those that were."""
    listed = await watched.store.environments.list(include_retired=retired)
    return {each.preview.branch: each for each in listed if each.preview is not None}


async def preview_of(watched: Watched, branch: str) -> Environment:
    """Wait until the branch has a preview."""

    async def there() -> bool:
        return branch in await previews(watched)

    await watched.until(there)
    return (await previews(watched))[branch]


async def ended(watched: Watched, branch: str) -> Preview:
    """Wait until the branch has no preview any more; what is kept of it."""

    async def away() -> bool:
        return branch not in await previews(watched)

    await watched.until(away)
    preview = (await previews(watched, retired=True))[branch].preview
    assert preview is not None
    return preview


async def all_are(watched: Watched, *branches: str) -> None:
    """Wait until these and no others have previews."""

    async def so() -> bool:
        return set(await previews(watched)) == set(branches)

    await watched.until(so)


async def publish(watched: Watched, build: Build, *functions: str) -> None:
    """Carry the build out, as the builder would."""
    for state in ("started", "cloning", "installing", "compiling", "publishing"):
        await watched.store.builds.advance(build.id, BuildState(state))
    specs = tuple(FunctionSpec(name=name, module="jobs", attribute=name, is_async=False) for name in functions)
    manifest = Manifest(runtime="python", interpreter="CPython", modules=("jobs",), functions=specs)
    await watched.store.builds.publish(build.id, manifest)
