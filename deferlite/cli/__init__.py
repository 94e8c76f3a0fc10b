"""The command line. ``main`` is its door and works without the server's packages, to say how to get them."""

from __future__ import annotations

import importlib
import importlib.util
import sys

_NEEDED = ("anyio", "click", "httpx", "jinja2", "msgspec", "rich", "starlette", "uvicorn")


def main() -> None:
    """Run the command line; ends the process with the contract's exit codes."""
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"deferlite: the server's packages are not installed (no {', '.join(missing)}).\n"
            'Get them with: pip install "deferlite[server]"',
            file=sys.stderr,
        )
        sys.exit(2)
    importlib.import_module("deferlite.cli.app").main()
