"""An SSH server on loopback that gives repositories to the owner of one key: ``ssh_server.py FOLDER``.

FOLDER holds ``host_key`` and ``authorized_keys``; repositories are named by their whole paths. Prints its port.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path

import asyncssh


async def serve_command(process: asyncssh.SSHServerProcess[bytes]) -> None:
    program, path = shlex.split(process.command or "")
    assert program == "git-upload-pack"
    environ = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
    child = await asyncio.create_subprocess_exec(
        "git", "upload-pack", path, stdin=-1, stdout=-1, stderr=-1, env=environ
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    process.exit(await child.wait())


async def main(folder: Path) -> None:
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[str(folder / "host_key")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=serve_command,
        encoding=None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
