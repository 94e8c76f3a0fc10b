"""The box: what a process inside may see of the machine, and the bubblewrap command line that builds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from deferlite.sandbox.levels import Level, SandboxStatus

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store")
"""Read-only in every box, as far as they exist."""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs are found, behind those of a build's own."""

MASKED = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers")
"""Empty in every box: a server that runs as root owns them, so its user could read them."""


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """All that a process inside has, besides the read-only system; nothing is inherited."""

    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    """Empty but for what of the other folders lies inside: the server's own, wherever it is kept."""
    network: bool = True
    cwd: Path
    env: dict[str, str]
    """The complete environment of the process."""


def wrap(status: SandboxStatus, box: Box, argv: Sequence[str], *, as_init: bool = False) -> list[str]:
    """``argv`` as it is started under the level in force; below bubblewrap it comes back unchanged.

    ``as_init``: the command is process 1 of its namespace, so nothing inside can kill it; it must reap orphans.
    Paths are the same inside and outside. ``box.env`` is not on the command line, where every user of
    the machine could read it: start the result with it as the environment, and with ``box.cwd``.
    """
    if status.level is not Level.BUBBLEWRAP or status.bwrap is None:
        return list(argv)
    inside = ("--remount-ro", "/", "--chdir", str(box.cwd), "--")
    return [status.bwrap, *_namespaces(box, as_init), *_system(), *_folders(box), *inside, *argv]


def interpreter_folders(python: Path) -> tuple[Path, ...]:
    """The installations an interpreter needs: the prefix of every link from a virtual environment's to the real one."""
    folders: dict[Path, None] = {}
    for _ in range(16):
        folders[python.parent.parent] = None
        if not python.is_symlink():
            break
        python = python.parent / python.readlink()
    folders[python.resolve().parent.parent] = None
    return tuple(folder for folder in folders if not _is_system(folder))


def _is_system(folder: Path) -> bool:
    return folder == Path("/") or any(folder.is_relative_to(path) for path in SYSTEM)


def _namespaces(box: Box, as_init: bool) -> Iterator[str]:
    yield from ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    if not box.network:
        yield "--unshare-net"
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL")
    if as_init:
        yield "--as-pid-1"
    # A name that every /etc/hosts resolves.
    yield from ("--hostname", "localhost")


def _system() -> Iterator[str]:
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for masked in MASKED:
        if Path(masked).exists():
            yield from ("--ro-bind", "/dev/null", masked)
    resolver = Path("/etc/resolv.conf").resolve()
    if resolver.exists() and not _is_system(resolver):
        yield from ("--ro-bind", str(resolver), str(resolver))
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")


def _folders(box: Box) -> Iterator[str]:
    binds = [("--ro-bind", path) for path in box.read_only] + [("--bind", path) for path in box.writable]
    hidden = [path for path in box.hidden if _is_shown(path, box)]
    # Outer folders first: a mount hides what was mounted below its place before.
    for option, path in sorted([*(("--tmpfs", path) for path in hidden), *binds], key=lambda bind: len(bind[1].parts)):
        yield from (option, str(path)) if option == "--tmpfs" else (option, str(path), str(path))
    for path in hidden:
        yield from ("--remount-ro", str(path))


def _is_shown(path: Path, box: Box) -> bool:
    """Whether it is there to be hidden: below something else that the box shows."""
    shown = (*map(Path, SYSTEM), *box.read_only, *box.writable)
    return path.is_dir() and any(path != folder and path.is_relative_to(folder) for folder in shown)
