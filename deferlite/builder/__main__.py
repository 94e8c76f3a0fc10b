"""``python -m deferlite.builder``: the builder as a program, for servers of other versions (protocol.py)."""

from __future__ import annotations

import sys

from deferlite.builder.program import main

sys.exit(main())
