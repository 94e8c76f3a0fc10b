"""Words for numbers, and the version that chose them."""

from importlib.metadata import version

import humanize

from deferlite import defer


@defer
def describe(count: int) -> dict[str, str]:
    return {"words": humanize.intword(count), "humanize": version("humanize")}
