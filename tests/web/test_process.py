"""The demo as a visitor meets it: a process that says where it listens, and leaves nothing behind, however it ends."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from forebay import Forebay
from tests.curl import curl

ADA = {"email": "ada@example.org", "name": "Countess"}


class Demo:
    """``python -m forebay.demo`` with a temporary directory of its own, so that whatever it leaves there is seen."""

    def __init__(self, scratch: Path, **environ: str) -> None:
        self.scratch = scratch
        inherited = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "DATABASE_URL")}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "default", "-m", "forebay.demo"],
            env={**inherited, "TMPDIR": str(scratch), "PORT": "0", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.told = ""

    def started(self) -> "Demo":
        for line in self.process.stdout:
            self.told += line
            if "Ctrl-C stops everything" in line:
                self.url = re.search(r"API +(http://\S+)", self.told)[1]
                self.family = psutil.Process(self.process.pid).children(recursive=True)
                return self
        raise AssertionError(f"the demo ended with {self.process.wait()}: {self.told}")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        self.told += self.process.communicate(timeout=15)[0]
        return self.process.returncode

    def servers(self) -> list[psutil.Process]:
        return [process for process in self.family if process.name().startswith("valkey-server")]

    def left_behind(self) -> list[str]:
        return sorted(os.listdir(self.scratch))


def gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


@pytest.fixture
def run(tmp_path_factory):
    """Start a demo; what a failed test leaves running is killed, by its own process ids."""
    started = []

    def start(**environ: str) -> Demo:
        started.append(Demo(tmp_path_factory.mktemp("d"), **environ))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.wait()
        demo.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_visit(run, number):
    demo = run().started()
    valkey = re.search(r"private Valkey at (redis://127\.0\.0\.1:\d+/0)", demo.told)[1]
    assert "private SQLite at" in demo.told
    assert f"{demo.url}/docs" in demo.told
    assert demo.told.count("curl ") == 2
    assert len(demo.servers()) == 1
    assert len(demo.left_behind()) == 2, "the directories of Valkey and of SQLite"
    with httpx.Client(base_url=demo.url) as client, Forebay(valkey) as visitor:
        assert [client.get("/users/1").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
        client.get("/users/1/posts")
        assert visitor.execute("EXISTS", "user:1", "user:1:posts") == 2
        assert client.put("/users/1", json=ADA).headers["X-Cache"] == "INVALIDATED"
        assert client.get("/users/1").json()["name"] == "Countess"
        assert client.get("/healthz").json()["status"] == "ok"
        began = time.monotonic()
        assert demo.end(number) == 0  # with a connection still open
    assert time.monotonic() - began < 5
    assert "Traceback" not in demo.told
    assert "Warning" not in demo.told
    assert all(gone(process) for process in demo.family)
    assert demo.left_behind() == []


def test_the_curl_lines_of_the_banner_work(run):
    demo = run().started()
    lines = re.findall(r"^ +(curl .*?)(?: +#.*)?$", demo.told, re.MULTILINE)
    assert [curl(line).headers["X-Cache"] for line in lines] == ["MISS", "INVALIDATED"]
    assert demo.end(signal.SIGINT) == 0


def test_a_killed_demo_takes_its_server_along(run):
    demo = run().started()
    servers = demo.servers()
    assert [gone(server) for server in servers] == [False]
    assert demo.end(signal.SIGKILL) == -signal.SIGKILL
    limit = time.monotonic() + 5
    while not all(gone(process) for process in demo.family):
        assert time.monotonic() < limit, f"still running: {demo.family}"
        time.sleep(0.02)


def test_a_signal_while_it_starts_ends_it_just_as_well(run):
    demo = run()
    limit = time.monotonic() + 15
    while not demo.left_behind():  # the first directory is there: it is in the midst of starting
        assert time.monotonic() < limit
        assert demo.process.poll() is None
        time.sleep(0.001)
    family = psutil.Process(demo.process.pid).children(recursive=True)
    assert demo.end(signal.SIGTERM) == 0
    assert "Traceback" not in demo.told
    assert all(gone(process) for process in family)
    assert demo.left_behind() == []


def test_a_taken_port_is_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        demo = run(PORT=str(port))
        assert demo.ended() == 1
    assert len(demo.told.splitlines()) == 1
    assert f"port {port} on 127.0.0.1 is taken" in demo.told
    assert demo.left_behind() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("HOST", "no such host"),
        ("HOST", "192.0.2.1"),
        ("DATABASE_URL", "mysql://me:sEcr3t@host/db"),
        ("DATABASE_URL", "sqlite:////nonexistent/folder/file.db"),
        ("DATABASE_URL", "postgresql://me:sEcr3t@127.0.0.1:1/db"),
        ("REDIS_URL", "http://me:sEcr3t@host"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_1(run, variable, value):
    demo = run(**{variable: value})
    assert demo.ended() == 1
    assert len(demo.told.splitlines()) == 1, demo.told
    assert demo.told.startswith("forebay.demo: ")
    assert "sEcr3t" not in demo.told
    assert demo.left_behind() == []


def test_given_servers_are_used_and_left_alone(run, url, postgresql):
    with Forebay(url) as redis:
        demo = run(REDIS_URL=url, DATABASE_URL=postgresql.url().replace("postgres@", "postgres:sEcr3t@")).started()
        assert "sEcr3t" not in demo.told
        assert f"{url}, as given" in demo.told
        assert f"postgresql:///postgres?host={postgresql.directory}, as given" in demo.told
        assert demo.family == []
        created = httpx.post(f"{demo.url}/users", json=ADA)
        assert created.status_code == 201
        assert demo.end(signal.SIGINT) == 0
        assert redis.execute("DEL", f"user:{created.json()['id']}") == 1
    again = run(REDIS_URL=url, DATABASE_URL=postgresql.url()).started()
    assert httpx.get(f"{again.url}{created.headers['Location']}").json() == created.json()
    assert again.end(signal.SIGTERM) == 0


def test_it_starts_and_serves_with_redis_away(run):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        demo = run(REDIS_URL=f"redis://me:sEcr3t@127.0.0.1:{reserved.getsockname()[1]}").started()
        assert "does not answer" in demo.told
        answer = httpx.get(f"{demo.url}/users/1")
        assert (answer.status_code, answer.headers["X-Cache"]) == (200, "MISS")
        assert httpx.put(f"{demo.url}/users/1", json=ADA).headers["X-Cache"] == "INVALIDATION-FAILED"
        assert httpx.get(f"{demo.url}/healthz").json()["cache"] == "down"
        assert demo.end(signal.SIGINT) == 0
    assert "Traceback" not in demo.told
    assert "sEcr3t" not in demo.told
    assert demo.left_behind() == []
