"""The server's own SDK as a wheel, so that builds install it without any index."""

from __future__ import annotations

import base64
import hashlib
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

import deferlite

_PACKAGE = Path(deferlite.__file__).parent
_INFO = f"deferlite-{deferlite.__version__}.dist-info"
_METADATA = f"""\
Metadata-Version: 2.1
Name: deferlite
Version: {deferlite.__version__}
Requires-Python: >=3.10
"""
_WHEEL = """\
Wheel-Version: 1.0
Generator: deferlite
Root-Is-Purelib: true
Tag: py3-none-any
"""


class SdkWheel(msgspec.Struct, frozen=True):
    """``digest`` is the SHA-256 of its contents: the same sources make the same wheel, byte for byte."""

    path: Path
    digest: str


def make_sdk_wheel(folder: Path) -> SdkWheel:
    """Write the wheel below ``folder`` unless it is there already. Blocks: call it in a thread."""
    files = {f"deferlite/{name}": data for name, data in _sources()}
    files[f"{_INFO}/METADATA"] = _METADATA.encode()
    files[f"{_INFO}/WHEEL"] = _WHEEL.encode()
    files[f"{_INFO}/RECORD"] = _record(files)
    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + data for name, data in files.items())).hexdigest()
    path = folder / digest[:16] / f"deferlite-{deferlite.__version__}-py3-none-any.whl"
    if not path.exists():
        _write(path, files)
    return SdkWheel(path, digest)


def _sources() -> Iterator[tuple[str, bytes]]:
    names = ["__init__.py", "testing.py", "py.typed"]
    names += sorted(str(path.relative_to(_PACKAGE)) for path in (_PACKAGE / "sdk").rglob("*.py"))
    for name in names:
        if (_PACKAGE / name).exists():
            yield name, (_PACKAGE / name).read_bytes()


def _record(files: dict[str, bytes]) -> bytes:
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return ("".join(lines) + f"{_INFO}/RECORD,,\n").encode()


def _write(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several builds may be the first one.
    partial = path.with_suffix(f".{secrets.token_hex(8)}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    partial.replace(path)
