"""API tokens: shown once, stored as hashes."""

from __future__ import annotations

from functools import partial

from deferlite.model.errors import Conflict, NotFound
from deferlite.model.ids import hash_token, new_id, new_token
from deferlite.store.database import Database
from deferlite.store.queries import TokenInfo
from deferlite.store.rows import to_token
from deferlite.store.statements import BUILDS
from deferlite.store.statements import TOKENS as SQL
from deferlite.store.writer import Transaction


class Tokens:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._valid: dict[str, str] = {}

    async def load(self) -> None:
        """Read the valid hashes; later changes follow their commits."""
        self._remember(dict(await self._database.rows(SQL["valid"])))

    async def create(self, environment: str, name: str = "") -> tuple[TokenInfo, str]:
        """A new token and its text, which is stored nowhere. Raises NotFound."""
        token = new_token()

        def insert(transaction: Transaction) -> TokenInfo:
            if transaction.one(BUILDS["environment"], (environment,)) is None:
                raise NotFound(f'there is no environment "{environment}"')
            info = _insert(transaction, environment, name, token, from_file=False)
            self.refresh(transaction)
            return info

        return await self._database.write(insert), token

    async def revoke(self, environment: str, id: str) -> None:
        """Revoking one twice is fine. Raises NotFound; Conflict for the one that the environment's file names."""

        def revoke(transaction: Transaction) -> None:
            where = {"environment": environment, "id": id}
            row = transaction.one(SQL["from_file"], where)
            if row is None:
                raise NotFound(f'environment "{environment}" has no token of id "{id}"')
            if row[0]:
                raise Conflict('this token is the "token" of the environment\'s file: change it or remove it there')
            transaction.run(SQL["revoke"], where | {"now": transaction.now})
            self.refresh(transaction)

        await self._database.write(revoke)

    async def verify(self, token: str) -> str | None:
        """The active environment that ``token`` opens, or None; answered from memory."""
        # Looked up by a hash of 256 random bits: the time of a lookup tells nothing of use about any token.
        return self._valid.get(hash_token(token))

    async def list(self, environment: str) -> list[TokenInfo]:
        """Oldest first, revoked ones too."""
        return [to_token(row) for row in await self._database.rows(SQL["list"], (environment,))]

    # For operations that change environments

    def take_from_file(self, transaction: Transaction, environment: str, token: str | None) -> bool:
        """Make ``token`` the one that the environment's file names; whether that changed. Raises Conflict."""
        stored = {row[0] for row in transaction.all(SQL["of_file"], (environment,))}
        wanted = set() if token is None else {hash_token(token)}
        if stored == wanted:
            return False
        transaction.run(SQL["forget_file"], (environment,))
        if token is not None:
            owner = transaction.one(SQL["owner"], (hash_token(token),))
            if owner is not None:
                raise Conflict(f'the token of "{environment}" is one of "{owner[0]}" already: use another')
            _insert(transaction, environment, "environment file", token, from_file=True)
        return True

    def refresh(self, transaction: Transaction) -> None:
        """Read the valid hashes again and use them from the commit on."""
        transaction.then(partial(self._remember, dict(transaction.all(SQL["valid"]))))

    def _remember(self, valid: dict[str, str]) -> None:
        self._valid = valid


def _insert(transaction: Transaction, environment: str, name: str, token: str, from_file: bool) -> TokenInfo:
    row = transaction.one(
        SQL["insert"],
        {
            "id": new_id(transaction.now),
            "environment": environment,
            "name": name,
            "hash": hash_token(token),
            "from_file": int(from_file),
            "now": transaction.now,
        },
    )
    assert row is not None
    return to_token(row)
