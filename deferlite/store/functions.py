"""Functions as the queue knows them."""

from __future__ import annotations

import msgspec

from deferlite.model.errors import NotFound, UnknownFunction
from deferlite.model.function import Function, FunctionSpec
from deferlite.store.database import Database, Row
from deferlite.store.rows import to_function
from deferlite.store.statements import FUNCTIONS as SQL


class Functions:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, environment: str, name: str) -> Function:
        """An active one. Raises UnknownFunction."""
        row = await self._database.row(SQL["get"], (environment, name))
        if row is None:
            raise UnknownFunction(name)
        return to_function(row)

    async def by_id(self, id: str) -> Function:
        """Active or not. Raises NotFound."""
        return to_function(await self._row("by_id", id))

    async def spec(self, id: str) -> FunctionSpec:
        """As in the newest live build that had it. Raises NotFound."""
        return msgspec.json.decode((await self._row("spec", id))[0], type=FunctionSpec)

    async def formers(self, environment: str) -> dict[str, tuple[str, ...]]:
        """By the id of an active function those that went into it: executions of theirs may still run."""
        formers: dict[str, tuple[str, ...]] = {}
        for id, former in await self._database.rows(SQL["formers"], (environment,)):
            formers[id] = (*formers.get(id, ()), former)
        return formers

    async def _row(self, query: str, id: str) -> Row:
        row = await self._database.row(SQL[query], (id,))
        if row is None:
            raise NotFound(f'cannot find function of id "{id}"')
        return row

    async def list(self, environment: str) -> list[Function]:
        """All that the environment has ever had: active ones first, then by name."""
        return [to_function(row) for row in await self._database.rows(SQL["list"], (environment,))]
