"""A mailing in portions, with what Python has had since 3.12."""

import sys
from itertools import batched

from deferlite import defer


@defer
def plan_mailing(addresses: list[str], portion: int = 2) -> dict[str, object]:
    """The portions in which a mailing is sent, and the Python that made them."""
    python = "{}.{}".format(*sys.version_info[:2])
    return {"portions": [list(part) for part in batched(addresses, portion)], "python": python}
