"""Identifiers and tokens."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid

_ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_TOKEN_PREFIX = "dlt_"
_EXECUTION_TOKEN_PREFIX = "dlx_"


class InvalidId(ValueError):
    """The text is not an identifier that deferlite gives out."""


def new_id(now: int) -> str:
    """A UUID of version 7 (RFC 9562): sorts by ``now``, microseconds since 1970, so that B-trees grow at their end."""
    value = (now // 1000) << 80 | 0x7 << 76 | (now % 1000 * 4096 // 1000) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def parse_id(text: str) -> str:
    """Return the canonical form of ``text``.

    Raises:
        InvalidId: it is not a UUID.
    """
    try:
        if len(text) != 36:
            raise ValueError(text)
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidId(text) from None


def is_environment_name(text: str) -> bool:
    return _ENVIRONMENT.match(text) is not None


def new_token() -> str:
    """An API token: 256 random bits. Only its ``hash_token`` is stored."""
    return _TOKEN_PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """SHA-256 in hex: a token carries 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


class ExecutionTokens:
    """Signs the ``DEFER_TOKEN`` an execution gets: nothing is stored, and a restart of the server voids them all.

    Whether the execution still runs is the caller's question to the store.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def issue(self, execution_id: str, attempt: int) -> str:
        return f"{_EXECUTION_TOKEN_PREFIX}{execution_id}.{attempt}.{self._sign(execution_id, attempt)}"

    def verify(self, token: str) -> tuple[str, int] | None:
        """The execution and attempt that ``token`` was issued for, or None."""
        parts = token.removeprefix(_EXECUTION_TOKEN_PREFIX).split(".")
        if not token.startswith(_EXECUTION_TOKEN_PREFIX) or len(parts) != 3 or not parts[1].isdecimal():
            return None
        if len(parts[1]) > 9 or not parts[2].isascii():
            return None
        execution_id, attempt = parts[0], int(parts[1])
        if not hmac.compare_digest(parts[2], self._sign(execution_id, attempt)):
            return None
        return execution_id, attempt

    def _sign(self, execution_id: str, attempt: int) -> str:
        return hmac.new(self._key, f"{execution_id}.{attempt}".encode(), "sha256").hexdigest()
