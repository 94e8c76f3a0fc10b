"""The store: one SQLite file, opened by one server at a time."""

from __future__ import annotations

from pathlib import Path

from deferlite.bus import Bus
from deferlite.model.clock import Clock
from deferlite.store.builds import Builds
from deferlite.store.database import Database
from deferlite.store.environments import Environments
from deferlite.store.executions import Executions
from deferlite.store.functions import Functions
from deferlite.store.logs import Logs
from deferlite.store.overview import Overview
from deferlite.store.statistics import Statistics
from deferlite.store.tokens import Tokens


class Store:
    """All that is remembered. Every change is on disk, and told on the bus, before its call returns."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self.environments = Environments(database, tokens)
        self.builds = Builds(database)
        self.functions = Functions(database)
        self.executions = Executions(database)
        self.logs = Logs(database)
        self.tokens = tokens
        self.statistics = Statistics(database)
        self.overview = Overview(database)

    @classmethod
    async def open(cls, path: Path, clock: Clock, bus: Bus) -> Store:
        """Open the database at ``path``, making or migrating it.

        Raises:
            StoreError: foreign, newer than this deferlite, damaged, read-only, or in use by another server.
        """
        database = await Database.open(path, clock, bus)
        tokens = Tokens(database)
        try:
            await tokens.load()
        except BaseException:
            await database.close()
            raise
        return cls(database, tokens)

    async def close(self) -> None:
        """Write what is still on its way, then close the file. Calls after this raise StoreError."""
        await self._database.close()
