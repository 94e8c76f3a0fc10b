"""Errors that rooms raise to each other. Every message names what is wrong and the cure."""

from __future__ import annotations


class DeferliteError(Exception):
    """Base of all; ``str()`` is fit to be shown to a person and holds no secret."""


class NotFound(DeferliteError):
    """No such environment, build or execution."""


class UnknownFunction(DeferliteError):
    """The environment's live build has no function of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f'cannot find function "{name}"')
        self.name = name


class Conflict(DeferliteError):
    """The thing is in a state that does not allow this."""


class AbortInProgress(DeferliteError):
    """The execution is being aborted already."""


class InvalidCursor(DeferliteError):
    """A page cursor that deferlite did not give out."""


class StoreError(DeferliteError):
    """The database cannot be used: read-only, foreign, newer than this deferlite, damaged, or its disk is full."""


class DiskFull(StoreError):
    """The disk of the database is full; nothing of the refused work was stored."""


class SandboxError(DeferliteError):
    """A process could not be started in the box asked for."""


class BuildError(DeferliteError):
    """The project is wrong: what to mend."""


class WorldError(DeferliteError):
    """The world is flaky: network, disk, a repository that does not answer. Trying again may help."""
