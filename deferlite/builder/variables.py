"""The variables of a build's commands and of its runner: complete, and nothing of the server's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from deferlite.model.errors import BuildError
from deferlite.sandbox.box import SYSTEM_PATH
from deferlite.sandbox.files import secret_text

CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
INDEXES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_HTTP_TIMEOUT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_FIND_LINKS",
)
RESERVED_PREFIX = "DEFER_"


def network_variables(*, indexes: bool) -> dict[str, str]:
    """How this machine reaches the network: certificates, proxies, and with ``indexes`` where packages come from."""
    names = [*CERTIFICATES, *PROXIES, *(name.lower() for name in PROXIES), *(INDEXES if indexes else ())]
    return {name: os.environ[name] for name in names if name in os.environ}


def certificate_folders() -> tuple[Path, ...]:
    """Files and folders that those variables name; a box has to show them."""
    paths = (Path(os.environ[name]) for name in CERTIFICATES if name in os.environ)
    return tuple(dict.fromkeys(path for path in paths if path.is_absolute() and path.exists()))


def link_folders() -> tuple[Path, ...]:
    """Folders of this machine that the server's variables name for packages; a box has to show them."""
    words = " ".join(os.environ.get(name, "") for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS")).replace(",", " ").split()
    paths = (Path(word.removeprefix("file://")) for word in words)
    return tuple(dict.fromkeys(path for path in paths if path.is_absolute() and path.exists()))


def read_env(env: Mapping[str, str | dict[str, str]]) -> dict[str, str]:
    """``[env]`` with the values of ``{ file = … }`` read, without a line end behind them. Blocks.

    Raises:
        BuildError: such a file cannot be read.
    """
    return {name: _read(name, value) for name, value in env.items() if not name.startswith(RESERVED_PREFIX)}


def _read(name: str, value: str | dict[str, str]) -> str:
    try:
        return secret_text(value)
    except ValueError as error:
        raise BuildError(f"[env] {name}: {error}") from None


def base_variables(venv: Path | None) -> dict[str, str]:
    path = f"{venv}/bin:{SYSTEM_PATH}" if venv else SYSTEM_PATH
    return {"PATH": path, "LANG": "C.UTF-8"} | ({"VIRTUAL_ENV": str(venv)} if venv else {})
