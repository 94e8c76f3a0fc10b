"""One broken commit after the other: each says what is wrong, and the live build answers all the while."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from tests.support import Repository, Server

GOOD = "from deferlite import defer\n\n@defer\ndef answer():\n    return 'good'\n"
BROKEN: list[tuple[dict[str, str], str]] = [
    ({"jobs.py": GOOD + "def broken(:\n"}, "jobs.py, line 6"),
    ({"jobs.py": GOOD + "import nosuchthing\n"}, "nosuchthing"),
    ({"jobs.py": GOOD + "1 / 0\n"}, "jobs.py, line 6"),
    ({"jobs.py": GOOD + "raise SystemExit(3)\n"}, "__main__"),
    ({"jobs.py": GOOD + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"}, "signal 9"),
    ({"jobs.py": GOOD + "import socket\nsocket.create_server(('127.0.0.1', 9))\n"}, "starts a server"),
    ({"jobs.py": GOOD, "more.py": GOOD}, 'two background functions are named "answer"'),
    ({"jobs.py": GOOD + "\n@defer.cron('61 * * * *')\ndef tick(): ...\n", "more.py": ""}, "jobs.py, line"),
    ({"jobs.py": "print('nothing here')\n"}, "no background functions found"),
    ({"jobs.py": GOOD, "requirements.txt": "deferlite-has-no-such-package==1.0\n"}, "deferlite-has-no-such-package"),
    ({"requirements.txt": "-r missing.txt\n"}, "missing.txt"),
    ({"requirements.txt": "six==1.17.0 --hash=sha256:" + "0" * 64 + "\n"}, "Hash mismatch"),
    ({"requirements.txt": "", "pyproject.toml": "[project\n"}, "pyproject.toml"),
    ({"pyproject.toml": "", ".python-version": "3.9\n"}, ".python-version"),
]


class Caller(threading.Thread):
    """Calls the function again and again, as an application would, and keeps what it answers."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.client = server.client("shop")
        self.answers: list[tuple[str, Any]] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            self.answers.append(self.client.call("answer"))

    def stop(self) -> None:
        self.stopped.set()
        self.join()


def test_the_live_build_answers_while_others_fail(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "shop", {"jobs.py": GOOD})
    with Server(tmp_path / "home") as server:
        server.add("shop", f'repository = "{repository.path}"\n')
        live = server.until_built("shop")
        assert live["state"] == "succeed"
        caller = Caller(server)
        caller.start()
        try:
            for files, expected in BROKEN:
                before = len(caller.answers)
                build = server.until_built("shop", repository.commit("break", files))
                assert build["state"] == "failed", files
                assert expected in build["error"], build["error"]
                assert len(caller.answers) > before, files
        finally:
            caller.stop()
        assert set(caller.answers) == {("succeed", "good")}
        folders = [path.name for path in (server.home / "builds" / "shop").iterdir()]
        assert folders == [live["id"]]
        commit = repository.commit("mend", {"jobs.py": GOOD.replace("good", "better"), ".python-version": ""})
        assert server.until_built("shop", commit)["state"] == "succeed"
        assert server.client("shop").call("answer") == ("succeed", "better")
