"""Named queries: each ``NAME.sql`` holds sections that begin with ``-- name: QUERY``."""

from __future__ import annotations

import re
from importlib import resources

_SECTION = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(name: str, **lists: str) -> dict[str, str]:
    """The queries of ``NAME.sql``; ``{word}`` in them stands for the column list given as ``word``."""
    text = resources.files(__name__).joinpath(f"{name}.sql").read_text("utf-8")
    for word, columns in lists.items():
        text = text.replace("{" + word + "}", columns)
    parts = _SECTION.split(text)[1:]
    return {query: sql.strip().rstrip(";") for query, sql in zip(parts[::2], parts[1::2], strict=True)}
