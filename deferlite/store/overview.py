"""What a list of all environments shows of each: read in as many queries for two hundred as for one."""

from __future__ import annotations

import msgspec

from deferlite.model.build import Build
from deferlite.store.database import Database
from deferlite.store.rows import to_build
from deferlite.store.statements import OVERVIEW as SQL


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """An environment's live build, its newest ones (newest first), and how many functions are active."""

    live: Build | None = None
    newest: tuple[Build, ...] = ()
    functions: int = 0


class Overview:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def environments(self, newest: int, include_retired: bool = False) -> dict[str, Glance]:
        """By the environment's name, with its ``newest`` builds; those without a build or a function are left out."""
        where = {"newest": newest, "include_retired": include_retired}
        builds: dict[str, list[Build]] = {}
        for row in await self._database.rows(SQL["builds"], where):
            build = to_build(row)
            builds.setdefault(build.environment, []).append(build)
        functions: dict[str, int] = {row[0]: row[1] for row in await self._database.rows(SQL["functions"])}
        return {
            name: Glance(
                live=next((build for build in builds.get(name, ()) if build.live), None),
                newest=tuple(builds.get(name, ())[:newest]),
                functions=functions.get(name, 0),
            )
            for name in builds.keys() | functions.keys()
        }
