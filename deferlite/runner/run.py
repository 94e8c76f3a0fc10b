"""The Python runner: ``PYTHON run.py FD``, started once per build inside the sandbox.

FD is a connected stream socket to the server. Both ways it carries frames: a JSON object on one line and, where
that says ``"size": N``, N bytes of payload after it. Payloads (arguments, results, output) are never re-encoded.

Server to runner
    configure   first: modules, path (folders for imports, the project's first), project, workdir ("project" or
                "scratch"), scratch (a writable folder), django (settings module or null), limits: {memory, log,
                result, file_size: bytes; files: number}
    start       id, attempt, module, attribute, env (all variables); payload: positional arguments as a JSON array
                of "arguments" bytes, then keyword arguments as a JSON object
    kill        id, attempt, ending ("aborted", "timed_out", "interrupted"), grace (seconds from SIGTERM to SIGKILL)
    The end of the stream ends the runner and everything it started.

Runner to server
    importing   the box stands, the user's modules are being imported
    ready       fork (bool), reason (why not, else null), seconds (of importing)
    failed      payload: the error object of the import; the runner ends
    log         id, attempt, stream, level, time (µs since 1970); payload: lines; without an end only where one was cut
    ended       id, attempt, ending ("returned", "raised", "internal": it failed before the function was called,
                "out_of_memory", or the one of kill), cpu_time (s), memory_peak (bytes); payload: the result, or the
                error object {name, message, stack} of "raised" and "internal".
                Sent when no process of the execution is left.
    broken      message: processes that cannot be ended; the runner ends

The runner imports the modules once and forks a process for every execution, with spares waiting. Where the import
leaves what does not survive a fork (threads, sockets), spares are processes of their own: ``run.py --child FD``.
``run.py --discover REQUEST`` is another program that begins in the same way: see finding.py.
It relies on nothing that the user's modules may change: no signals, no names looked up in the standard
library after they are imported. stdin is empty, stdout and stderr stay the user's.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType


def main(arguments: list[str]) -> None:
    # Found by path, whatever deferlite the project has installed, and forgotten again: the project's own import
    # of deferlite must find the project's.
    folder = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == folder:  # Not with PYTHONSAFEPATH.
        del sys.path[0]
    for name, path in (("deferlite", folder + "/.."), ("deferlite.runner", folder)):
        package = ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package
    discovering = arguments[0] == "--discover"
    if discovering:
        from deferlite.runner import finding
    else:
        from deferlite.runner import child, startup

    for name in [name for name in sys.modules if name.partition(".")[0] == "deferlite"]:
        del sys.modules[name]
    # multiprocessing would import the main module again in its own children.
    sys.modules["__main__"] = ModuleType("__main__")
    sys.argv = ["deferlite"]
    if discovering:
        finding.answer_request(arguments[-1])
    descriptor = int(arguments[-1])
    # What the starter left open (uvloop leaves its copies of the output pipes) is nothing of the project's, and
    # would look like something that its modules opened.
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, 1 << 20)
    if arguments[0] == "--child":
        child.spare(descriptor)
    startup.serve(descriptor, __file__)


if __name__ == "__main__":
    main(sys.argv[1:])
