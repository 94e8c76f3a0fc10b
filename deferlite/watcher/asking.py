"""What an environment follows against what was built last → a build."""

from __future__ import annotations

import logging

from deferlite.model.build import CUT_OFF, RETIRED, Build, BuildState, Trigger
from deferlite.model.environment import Environment, EnvironmentConfig, build_inputs
from deferlite.model.errors import Conflict, NotFound
from deferlite.store import Store
from deferlite.watcher.sources import Seen

log = logging.getLogger(__name__)


class Asking:
    """Asks for a build whenever what an environment follows is not what was built last."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def compare(self, name: str, config: EnvironmentConfig, seen: Seen) -> None:
        """``seen`` is what there is to build by the settings ``config``. Raises StoreError."""
        try:
            environment = await self._store.environments.get(name)
        except NotFound:
            return
        if environment.state != "active" or environment.config != config:
            return  # Whoever changed it rings again.
        trigger = await self._reason(environment, config, seen)
        if trigger is None:
            return
        try:
            build = await self._store.builds.request(
                name, commit=seen.commit, branch=seen.branch, message=seen.message, trigger=trigger
            )
        except (Conflict, NotFound):
            return  # Retired meanwhile.
        log.info("environment %s: build %d asked for (%s) %s", name, build.number, trigger, (seen.commit or "")[:12])

    async def _reason(self, environment: Environment, config: EnvironmentConfig, seen: Seen) -> Trigger | None:
        """Why this is to be built; None: it was, or a rollback holds the environment."""
        newest = await self._store.builds.newest_followed(environment.name)
        if newest is None:
            return Trigger.NEW
        if not seen.is_what_was_built(newest):
            return Trigger.WORKTREE if config.worktree else Trigger.COMMIT
        if environment.pinned:
            return None
        if build_inputs(await self._store.builds.config(newest.id)) != build_inputs(config):
            return Trigger.SETTINGS
        if _left_the_disk(environment, newest):
            return Trigger.NEW
        return newest.trigger if _never_tried(newest) else None


def _never_tried(build: Build) -> bool:
    """A failure that says nothing about the project: a crash, or the environment was away."""
    return build.state is BuildState.FAILED and (build.started_at is None or build.error in (CUT_OFF, RETIRED))


def _left_the_disk(environment: Environment, newest: Build) -> bool:
    """It was built, and its preview was away since."""
    return environment.live_build_id is None and newest.state is BuildState.SUCCEED and not newest.held
