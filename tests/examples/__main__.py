"""``make examples``: a server with an environment for every example, built, called and built again, as one table.

``make examples ONLY=flask,poetry`` takes some of them. The exit code is 1 if one fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.examples.measure import measured
from tests.examples.projects import read_examples
from tests.examples.report import as_json, as_text


def main() -> None:
    options = argparse.ArgumentParser(prog="make examples", description=__doc__)
    options.add_argument("--json", action="store_true")
    options.add_argument("--only", default="", metavar="NAME,NAME")
    chosen = options.parse_args()
    only = [name.strip() for name in chosen.only.split(",") if name.strip()]
    if unknown := sorted(set(only) - read_examples().keys()):
        options.error(f"no such example: {', '.join(unknown)}; there are {', '.join(read_examples())}")
    with (
        tempfile.TemporaryDirectory(prefix="deferlite-examples-") as folder,
        measured(Path(folder), only) as (_, report),
    ):
        print(json.dumps(as_json(report), indent=2) if chosen.json else as_text(report))
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
