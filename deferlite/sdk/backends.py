"""The seam between the calls an application makes and what carries them out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from deferlite.sdk.executions import Execution, NewExecution, Page, Query

DEFAULT_ENDPOINT = "http://127.0.0.1:3337"


class Backend(Protocol):
    """Carries calls out: over HTTP, in this process, or under a test's control.

    Everything may raise ``DeferError``; calls about one execution raise ``NotFound`` where there is none.
    """

    def enqueue(self, requests: Sequence[NewExecution]) -> list[Execution]:
        """Take all of them or none."""

    async def aenqueue(self, requests: Sequence[NewExecution]) -> list[Execution]: ...

    def result(self, execution_id: str, timeout: float) -> Any:
        """Wait up to ``timeout`` seconds (``math.inf``: for ever) and go on as ``errors.value_of`` says."""

    async def aresult(self, execution_id: str, timeout: float) -> Any: ...

    def get(self, execution_id: str) -> Execution: ...

    def cancel(self, execution_id: str, force: bool) -> Execution:
        """Raises ``Conflict`` where the state does not allow it."""

    def reschedule(self, execution_id: str, moment: datetime | None) -> Execution:
        """None means now. Raises ``Conflict`` unless the execution is still to start."""

    def rerun(self, execution_id: str) -> Execution: ...

    def find(self, query: Query) -> Page[Execution]: ...

    def attempts(self, execution_id: str, query: Query) -> Page[Execution]: ...


_overrides: list[Backend] = []


@contextmanager
def override(backend: Backend) -> Iterator[None]:
    """Send every call of this process, in all its threads, to ``backend`` until the block ends."""
    _overrides.append(backend)
    try:
        yield
    finally:
        _overrides.remove(backend)


def current_backend() -> Backend:
    """Where calls go now: the variables are read at every call, since a runner sets them anew for each execution."""
    if _overrides:
        return _overrides[-1]
    token = os.environ.get("DEFER_TOKEN", "").strip()
    if token:
        from deferlite.sdk.client import HttpBackend

        return HttpBackend(os.environ.get("DEFER_ENDPOINT", "").strip() or DEFAULT_ENDPOINT, token)
    from deferlite.sdk.local import local_backend

    return local_backend()
