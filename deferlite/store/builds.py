"""Builds: from the request to the switch of the live one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from deferlite.model.build import Build, BuildState, Trigger
from deferlite.model.changes import Commit
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import NotFound
from deferlite.model.execution import encode_json
from deferlite.model.function import Manifest
from deferlite.store import building, releasing, timing
from deferlite.store.breaking import count
from deferlite.store.building import decode_manifest
from deferlite.store.database import Database, Row
from deferlite.store.rows import decode_config, to_build
from deferlite.store.statements import BUILDS as SQL


class Builds:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(
        self, environment: str, *, commit: str | None, branch: str | None, message: str, trigger: Trigger
    ) -> Build:
        """A new build in state created, with the settings as they are now; overtakes those not started yet.

        Raises:
            NotFound: there is no such environment.
            Conflict: it is retired, or its file has never been good.
        """
        operation = partial(
            building.request,
            environment=environment,
            commit=commit,
            branch=branch,
            message=message,
            trigger=trigger,
        )
        return await self._database.write(operation)

    async def next_created(self, exclude: Collection[str]) -> Build | None:
        """The oldest build to be started, of an environment that is not in ``exclude``."""
        row = await self._database.row(SQL["next_created"], {"exclude": encode_json(sorted(exclude))})
        return None if row is None else to_build(row)

    async def advance(self, build_id: str, state: BuildState, builder: str | None = None) -> Build:
        """Enter ``state`` (neither succeed nor failed): closes the step before and opens one for it.

        ``builder`` is the version of the deferlite that builds it, once that is known.

        Raises:
            NotFound: there is no such build.
            Conflict: the build is in a state that does not lead there, because it was overtaken for instance.
        """
        return await self._database.write(partial(building.advance, build_id=build_id, state=state, builder=builder))

    async def describe(self, build_id: str, message: str) -> Build:
        """The commit's subject, where it was not known when the build was asked for. Raises NotFound."""
        return await self._database.write(partial(building.describe, build_id=build_id, message=message))

    async def fail(self, build_id: str, error: str) -> Build:
        """End it as failed; ``error`` says what to mend. Raises NotFound; Conflict if it has ended already."""
        return await self._database.write(partial(building.fail, build_id=build_id, error=error))

    async def publish(
        self,
        build_id: str,
        manifest: Manifest,
        *,
        builder: str = "",
        commits: Sequence[Commit] = (),
        more_commits: int = 0,
    ) -> Build:
        """End it as good and make it the live build, in one transaction with its functions and their cron moments.

        ``builder`` is the version of the builder that made it; ``commits``, newest first, and ``more_commits`` are what
        it adds to the live build. What the executions that wait would lose by it is in the findings of the answer.

        It does not go live where it would break some of them and the environment says ``breaking = "hold"`` (it
        comes back held), nor where a rollback that is newer than the request holds the environment. Else it ends a
        rollback; one that a person asked for, of another commit than the one followed, holds like a rollback.

        Raises:
            NotFound: there is no such build.
            Conflict: it is not in state publishing.
            BuildError: a cron expression is wrong; nothing has changed.
        """
        build = await self.get(build_id)
        operation = partial(
            releasing.publish,
            build_id=build_id,
            manifest=manifest,
            builder=builder,
            commits=tuple(commits),
            more_commits=more_commits,
            counted=await count(self._database, build.environment, manifest),
        )
        return await self._settled(await self._database.write(operation, "publish"))

    async def rollback(self, environment: str, build_id: str | None) -> Build:
        """Make an older good build live and hold the environment there; None: the newest before the live one.

        It holds until a build goes live that was asked for later because of a commit or by a person. The findings of
        the answer say what waiting executions lose by it.

        Raises:
            NotFound: no such environment, or no such build in it.
            Conflict: the build did not succeed, is live already or held, its files are not kept any more, or there is
                none before the live one.
        """
        return await self._release(releasing.rollback, "before_live", environment, build_id)

    async def promote(self, environment: str, build_id: str | None) -> Build:
        """Make a held build live; None: the newest.

        Raises:
            NotFound: no such environment, or no such build in it.
            Conflict: there is no held build, or that one is not held (any more).
        """
        return await self._release(releasing.promote, "newest_held", environment, build_id)

    async def resume(self, environment: str) -> Build:
        """End what holds the environment on its build: the newest good one of the followed commits is live again.

        Raises:
            NotFound: no such environment.
            Conflict: nothing holds it.
        """
        return await self._release(releasing.resume, "newest_good", environment, None)

    async def cancel(self, build_id: str) -> Build:
        """End one that has not started, as failed with the error ``CANCELLED``; ask the builder to end one that has.

        Raises:
            NotFound: there is no such build.
            Conflict: it has ended.
        """
        return await self._database.write(partial(building.cancel, build_id=build_id))

    async def _release(
        self, operation: Callable[..., Build], query: str, environment: str, build_id: str | None
    ) -> Build:
        where = {"environment": environment}
        row = (build_id,) if build_id is not None else await self._database.row(SQL[query], where)
        manifest = None if row is None else await self._database.row(SQL["manifest"], (row[0],))
        counted = {} if manifest is None else await count(self._database, environment, decode_manifest(manifest[0]))
        written = partial(operation, environment=environment, build_id=build_id, counted=counted)
        return await self._settled(await self._database.write(written, "publish"))

    async def _settled(self, build: Build) -> Build:
        await timing.settle_all(self._database)
        return build

    async def newest_followed(self, environment: str) -> Build | None:
        """The newest build, not counting what a person asked for of another commit than the one followed."""
        row = await self._database.row(SQL["newest_followed"], (environment,))
        return None if row is None else to_build(row)

    async def get(self, id: str) -> Build:
        """Raises NotFound."""
        return to_build(await self._row("get", id))

    async def manifest(self, id: str) -> Manifest:
        """Raises NotFound, also for a build that has not succeeded."""
        return decode_manifest((await self._row("manifest", id))[0])

    async def config(self, id: str) -> EnvironmentConfig:
        """The settings as they were when the build was requested. Raises NotFound."""
        return decode_config((await self._row("config", id))[0])

    async def fail_unfinished(self, reason: str) -> int:
        """At the start: fail the builds that were cut off in the middle; those still in created stay. How many."""
        return await self._database.write(partial(building.fail_cut_off, reason=reason))

    async def in_use(self, environment: str) -> set[str]:
        """Builds whose folders must stay: live, unfinished, running executions' own, held, kept for rollback."""
        return {row[0] for row in await self._database.rows(SQL["in_use"], {"environment": environment})}

    async def let_go(self, environment: str, *, live_too: bool = False) -> set[str]:
        """Builds whose folders must stay: no other one of now is ever started or made live again.

        Of a retired environment these are the live one, the unfinished ones and running executions' own, with
        ``live_too`` without the live one. Raises NotFound.
        """
        return await self._database.write(partial(building.let_go, environment=environment, live_too=live_too))

    async def _row(self, query: str, id: str) -> Row:
        row = await self._database.row(SQL[query], (id,))
        if row is None:
            raise NotFound(f'cannot find build "{id}"')
        return row

    async def list(self, environment: str | None, limit: int = 20, before_number: int | None = None) -> list[Build]:
        """Newest first; ``before_number`` goes on after a page, within one environment."""
        if environment is None:
            rows = await self._database.rows(SQL["list"], (limit,))
        else:
            where = {"environment": environment, "before": before_number, "limit": limit}
            rows = await self._database.rows(SQL["list_in"], where)
        return [to_build(row) for row in rows]
