"""Storage and what it costs."""

import humanize

from deferlite import defer


@defer
def storage_report(files: dict[str, int]) -> dict[str, str]:
    """Sizes as people read them, the largest first."""
    return {name: humanize.naturalsize(size) for name, size in sorted(files.items(), key=lambda item: -item[1])}
