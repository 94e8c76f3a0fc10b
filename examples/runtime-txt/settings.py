"""Settings of tenants, with what Python has had since 3.13."""

import sys
from copy import replace
from dataclasses import asdict, dataclass

from deferlite import defer


@dataclass(frozen=True)
class Plan:
    seats: int = 5
    support: str = "mail"


@defer
def upgrade(tenant: str, **changes: object) -> dict[str, object]:
    """A tenant's plan with some of it changed, and the Python that did it."""
    plan = replace(Plan(), **changes)
    return {"tenant": tenant, **asdict(plan), "python": "{}.{}".format(*sys.version_info[:2])}
