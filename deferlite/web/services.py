"""What the web room is given by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deferlite.bus import Bus
from deferlite.model.clock import Clock
from deferlite.model.ids import ExecutionTokens
from deferlite.sandbox.levels import SandboxStatus
from deferlite.settings import Settings
from deferlite.store import Store
from deferlite.web.auth import PublicAuth
from deferlite.web.session import AdminAuth


def _always() -> bool:
    return True


@dataclass(kw_only=True)
class Services:
    """Everything a route may use. ``started_at``: microseconds since 1970."""

    store: Store
    bus: Bus
    clock: Clock
    settings: Settings
    execution_tokens: ExecutionTokens
    admin_key: str
    sandbox: SandboxStatus
    home: Path
    endpoint: str
    """Where executions and people reach this server, such as ``http://127.0.0.1:3337``."""
    version: str
    started_at: int
    ready: Callable[[], bool] = _always
    """False while the server starts or drains: ``/readyz`` answers 503."""
    public_auth: PublicAuth = field(init=False)
    admin_auth: AdminAuth = field(init=False)

    def __post_init__(self) -> None:
        self.public_auth = PublicAuth(self.store, self.execution_tokens)
        names = (self.settings.address, self.endpoint, *self.settings.hosts)
        self.admin_auth = AdminAuth(self.admin_key, names, self.clock)
