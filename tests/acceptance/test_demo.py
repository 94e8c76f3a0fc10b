"""``deferlite demo`` alone ends with a served page whose environments are built and whose executions succeed."""

from __future__ import annotations

import signal
import subprocess

import httpx

from tests.support import DEFERLITE, PATIENCE, clean_environ


def test_the_demo() -> None:
    command = [str(DEFERLITE), "demo", "--port", "0"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environ())
    assert demo.stdout is not None and demo.stderr is not None
    try:
        printed = []
        for line in demo.stdout:
            printed.append(line)
            if "The status page:" in line:
                break
        address = printed[-1].split()[-1]
        executions = [line for line in printed if line.startswith(("production", "staging"))]
        assert len(executions) == 8 and all(" succeed, " in line for line in executions), printed
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as browser:
            page = browser.get(address)
        assert page.status_code == 200
        assert "production" in page.text and "staging" in page.text and "publish_album" in page.text
    finally:
        demo.send_signal(signal.SIGTERM)
        _, errors = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, errors
