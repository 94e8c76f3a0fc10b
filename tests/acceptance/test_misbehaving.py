"""examples/misbehaving through the whole server: each case ends as its contract says, and nothing else is touched."""

from __future__ import annotations
