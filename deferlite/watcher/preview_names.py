"""Names of preview environments: safe whatever the branch is called, and never another branch's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

LONGEST = 63
_UNSAFE = re.compile(r"[^a-z0-9]+")


def names_for(base: str, branch: str) -> Iterator[str]:
    """Names for the preview of ``branch``, best first: the first that is no other environment's is to be taken.

    ``BASE--BRANCH`` where that says all, else with a hash of both that is longer each time.
    """
    slug = _UNSAFE.sub("-", branch.lower()).strip("-")
    plain = f"{base}--{slug}"
    if slug == branch.replace("/", "-") and len(plain) <= LONGEST:
        yield plain
    digest = hashlib.sha256(f"{base}\0{branch}".encode(errors="surrogateescape")).hexdigest()
    for length in (8, 16, 32):
        yield f"{plain[: LONGEST - length - 1].rstrip('-')}-{digest[:length]}"
