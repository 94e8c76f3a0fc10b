"""One server at a time: a lock that the kernel lets go of when its process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from deferlite.model.errors import StoreError


class ServerLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, database: Path) -> ServerLock:
        """Lock the file beside ``database``; its content is the holder's process id, for messages only.

        Raises:
            StoreError: another server holds it, or the folder cannot be written.
        """
        path = database.with_name(database.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; the folder must be there and be writable") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreError(
                f"another deferlite serves this home (pid {holder or 'unknown'}); stop it, or give another --home"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"{path}: cannot be locked: {error.strerror}; use a local disk") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        # The file stays: removing it would let two servers lock two different files of the same name.
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
