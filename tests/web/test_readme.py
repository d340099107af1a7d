"""What the README promises a newcomer: its console lines, in order, against the process that ``make run`` starts."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.curl import curl

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_recipe():
    """The command behind ``make run``, with this interpreter in place of the one in .venv."""
    recipe = re.search(r"^run:.*\n\t@exec \$\(BIN\)/python (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [sys.executable, *recipe[1].split()]


def test_the_lines_of_the_readme(tmp_path):
    lines = re.findall(r"^\$ (curl .*)$", README, re.MULTILINE)
    assert len(lines) == 8
    [(times, guess)] = re.findall(r"^\$ for i in \$\(seq (\d+)\); do (curl .*); done$", README, re.MULTILINE)
    lines[7:7] = [guess] * int(times)
    port = free_port()
    process = subprocess.Popen(
        run_recipe(),
        cwd=ROOT,
        env={**os.environ, "PORT": str(port), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        jars = {}
        answers = [curl(line.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), jars) for line in lines]
        first, second, _change, after, stats, login, me, *guesses, last = answers
        assert [answer.status_code for answer in answers] == [200] * 7 + [401] * int(times) + [429]
        assert last.json() == {"error": "rate limit exceeded"}
        assert int(last.headers["Retry-After"]) >= 1
        assert '"login-account";r=0' in last.headers["RateLimit"]
        assert guesses[0].headers["RateLimit-Policy"] == last.headers["RateLimit-Policy"]
        assert "HttpOnly" in login.headers["set-cookie"]
        assert me.json()["user"]["name"] == "Grace Hopper"
        assert [answer.headers["X-Cache"] for answer in (first, second, after)] == ["MISS", "HIT", "MISS"]
        assert first.json()["name"] != after.json()["name"] == "Ada King"
        assert set(after.json()) == {"id", "email", "name", "created_at"}
        assert stats.json()["caches"]["user"]["hits"] == 1
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []
