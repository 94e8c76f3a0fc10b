"""Background functions that do everything wrong. README.md says how each of them ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from deferlite import defer


class OrderLost(Exception):
    pass


@defer
def raises(order: str) -> None:
    try:
        {}[order]
    except KeyError as cause:
        raise OrderLost(f"no order {order}") from cause


@defer
def exits() -> None:
    sys.exit(3)


@defer
def exits_at_once() -> None:
    print("almost", end="", flush=True)
    os._exit(7)


@defer
def exits_happily() -> None:
    sys.exit(0)


@defer
def segfaults() -> None:
    ctypes.string_at(0)


@defer
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@defer(max_duration="1s")
def hangs() -> None:
    time.sleep(1_000_000)


@defer(max_duration="1s")
def spins() -> None:
    while True:
        pass


@defer(max_duration="1s")
def ignores_sigterm() -> None:
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
    print("ignoring")
    time.sleep(1_000_000)


@defer(max_duration="1s")
def stops_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@defer
def forks() -> int:
    """Returns the process id of the daemon."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            os.closerange(0, 64)
            time.sleep(1_000_000)
        os._exit(0)
    return int(os.read(reading, 20))


@defer
def leaves_children() -> list[int]:
    """Returns their process ids."""
    children = [subprocess.Popen(["sleep", "1000000"], start_new_session=new) for new in (False, True)]
    children[1].send_signal(signal.SIGSTOP)
    return [child.pid for child in children]


@defer
def floods(megabytes: int = 100) -> int:
    line = "x" * 1023 + "\n"
    for _ in range(megabytes * 1024):
        sys.stdout.write(line)
    return megabytes


@defer
def eats_memory() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 10_000_000)
        time.sleep(0.005)


@defer
def shares_memory_hunger() -> None:
    for _ in range(4):
        if os.fork() == 0:
            _ = b"x" * 200_000_000
            time.sleep(1_000_000)
    time.sleep(1_000_000)


@defer
def returns_not_json() -> object:
    return object()


@defer
def returns_nan() -> float:
    return float("nan")


@defer
def returns_number_keys() -> dict[int, str]:
    return {1: "one"}


@defer
def too_big_result() -> str:
    return "x" * 9 * 1024 * 1024


@defer
def prints_rubbish() -> None:
    os.write(1, b"caf\xe9\n")
    os.write(1, b"nul \x00 byte\n")
    os.write(2, b"no end")


@defer
def scribbles_on_descriptors() -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\xff\n" * 100)
        except OSError:
            pass
    time.sleep(1_000_000)


@defer
def outlasts_its_function() -> str:
    threading.Thread(target=time.sleep, args=(1_000_000,)).start()
    return "returned"
