"""What the last life of the server left unfinished. Recovery runs nothing: it puts work back into the queue."""

from __future__ import annotations

import logging

from deferlite.model.build import CUT_OFF
from deferlite.model.words import plural
from deferlite.store import Store

log = logging.getLogger(__name__)


async def recover(store: Store, boot_id: str) -> None:
    """Put executions that were cut off back into the queue and end builds that were; before the first claim."""
    cut_off = await store.executions.recover(boot_id)
    if cut_off:
        log.warning("cut off by the end of the last server, and run again: %s", plural(len(cut_off), "execution"))
    builds = await store.builds.fail_unfinished(CUT_OFF)
    if builds:
        log.warning("cut off by the end of the last server: %s", plural(builds, "build"))
