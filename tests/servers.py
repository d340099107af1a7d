"""One real server process under a test's hand: a directory and a port of its own, killed and restarted at will.

Nothing waits for a length of time: a node is ready when the process that was started here answers, and every other state is asked for.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import hiredis

from forebay.wire import supervisor
from forebay.wire.embedded import find_server

__all__ = ["HOST", "Line", "Node", "caught_up", "free_ports", "start_all", "stop_all", "until"]

T = TypeVar("T")

HOST: Final = "127.0.0.1"
_PATIENCE: Final = 15.0
# Below the ports that kernels give to clients: a node that is down must find its port free when it comes back.
_FIRST_PORT: Final = 13_000
_PORTS: Final = 1_900
_WORKERS: Final = 10
_given: set[int] = set()


def until(condition: Callable[[], T | None], what: str, within: float = _PATIENCE, every: float = 0.02) -> T:
    """Return what *condition* returns once it is true; a server that is away or says no is asked again until *within* seconds are over."""
    limit = time.monotonic() + within
    while True:
        seen: object
        try:
            seen = found = condition()
            if found is not None and found is not False:
                return found
        except (OSError, hiredis.HiredisError) as error:
            seen = error
        if time.monotonic() > limit:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {seen!r}")
        time.sleep(every)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on and that were not given out before; each test worker has a range of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    candidates = range(_FIRST_PORT + worker * _PORTS, _FIRST_PORT + (worker + 1) * _PORTS)
    found: list[int] = []
    for port in random.Random().sample(candidates, len(candidates)):  # a seeded draw would give two runs the same ports
        if len(found) == count:
            return found
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            if port not in _given:
                found.append(port)
                _given.add(port)
    raise AssertionError(f"no {count} free ports from {candidates.start} to {candidates.stop}")


class Line:
    """One plain connection for administration. Text in, text out; an error reply is raised."""

    def __init__(self, port: int, password: str | None = None, patience: float = 5.0) -> None:
        self._socket = socket.create_connection((HOST, port), patience)
        self._reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        if password is not None:
            self.call("AUTH", password)

    def call(self, *args: str | int | bytes) -> Any:
        self._socket.sendall(hiredis.pack_command(args))  # type: ignore[arg-type]
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def alive(self) -> bool:
        """Whether the server has not closed the connection; sentinels make a server do that when its role changes."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLHUP)
        return not poll.poll(0)  # nothing is awaited, so that anything to read is its end

    def close(self) -> None:
        self._socket.close()


class Node:
    """One server process. *options* go on its command line; with *config* it is a sentinel and that is its configuration file.

    *files* are put into its directory before each start and read back before each end: what a process needs to remember
    who it was survives it, while the directory itself goes with the process.
    """

    def __init__(
        self,
        port: int,
        options: Sequence[str] = (),
        *,
        config: str | None = None,
        files: Sequence[str] = (),
        password: str | None = None,
    ) -> None:
        self.port = port
        self.password = password
        self.pid = 0
        self._options = tuple(options)
        self._sentinel = config is not None
        self._files: dict[str, str] = dict.fromkeys(files, "") | ({} if config is None else {"sentinel.conf": config})
        self._directory = Path()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._line: Line | None = None
        self._lock = threading.Lock()

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    @property
    def running(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    def launch(self) -> None:
        """Start the process and return at once; `ready` waits for it."""
        assert not self.running, f"{self} runs already"
        self._directory = Path(tempfile.mkdtemp(prefix="forebay-topology-"))
        for name, text in self._files.items():
            if text:
                (self._directory / name).write_text(text)
        binary = find_server()
        own = ["--port", str(self.port), "--bind", HOST, "--pidfile", str(self._directory / "pid"), "--dir", str(self._directory)]
        command = [binary, "sentinel.conf", "--sentinel", *own] if self._sentinel else [binary, *own, *_QUIET, *self._options]
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, str(self._directory), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def ready(self) -> None:
        """Return once the process that `launch` started answers; somebody else's server on this port does not count."""

        log = ""

        def answers() -> bool:
            nonlocal log
            log = self.log() or log
            assert self.running, f"{self} ended at once: {log}"
            self.pid = int((self._directory / "pid").read_text() or 0)
            return self.pid > 0 and int(self.info("server")["process_id"]) == self.pid

        try:
            until(answers, f"{self} answers", every=0.005)
        except BaseException:
            self.stop()
            raise

    def log(self) -> str:
        """Return the end of the process's log; the log goes with the process."""
        with contextlib.suppress(OSError):
            return (self._directory / "server.log").read_text(errors="replace")[-2000:]
        return ""

    def call(self, *args: str | int | bytes) -> Any:
        """Send one command and return its reply; error replies are raised, as is the failure to reach the node."""
        with self._lock:
            line, self._line = self._line, None
            if line is None or not line.alive():
                if line is not None:
                    line.close()
                line = Line(self.port, self.password)
            try:
                reply = line.call(*args)
            except hiredis.ReplyError:
                self._line = line
                raise
            except BaseException:  # after half an exchange the connection is of no use
                line.close()
                raise
            self._line = line
            return reply

    def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO as a dictionary."""
        lines = [line.partition(":") for line in str(self.call("INFO", section)).splitlines() if ":" in line]
        return {name: value for name, _, value in lines}

    def calls(self, command: str) -> int:
        """Return how often this node has run *command* since it started."""
        counted = self.info("commandstats").get(f"cmdstat_{command.lower()}", "calls=0")
        return int(counted.partition("calls=")[2].partition(",")[0])

    def kill(self) -> None:
        """End the process with SIGKILL: nothing is said goodbye to."""
        assert self.running, f"{self} does not run"
        self._remember()
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End the process in good order; safe to call again."""
        self.begin_to_stop()
        if self._supervisor is not None:
            supervisor.ended(self._supervisor)
            self._forget()

    def begin_to_stop(self) -> None:
        """Tell the supervisor to end the process, and return at once."""
        if self._supervisor is not None and self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
            self._remember()
            self._supervisor.stdin.close()
            self._supervisor.terminate()  # a forked child may hold the pipe open

    def _remember(self) -> None:
        for name in self._files:
            with contextlib.suppress(OSError):
                lines = (self._directory / name).read_text().splitlines(keepends=True)
                self._files[name] = "".join(line for line in lines if not line.startswith(("dir ", "pidfile ")))  # the next is elsewhere

    def _forget(self) -> None:
        self._supervisor = None
        with self._lock:
            if self._line is not None:
                self._line.close()
                self._line = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def __repr__(self) -> str:
        return f"<{'sentinel' if self._sentinel else 'server'} {HOST}:{self.port}>"


_QUIET: Final = (  # nothing on disk, replicas synchronised at once, no waiting for them at the end
    *("--save", "", "--appendonly", "no", "--daemonize", "no", "--shutdown-timeout", "0"),
    *("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
)


def start_all(nodes: Iterable[Node]) -> None:
    """Start *nodes* side by side and return when every one of them answers."""
    nodes = list(nodes)
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.ready()
    except BaseException:
        stop_all(nodes)
        raise


def stop_all(nodes: Iterable[Node]) -> None:
    """Stop *nodes* side by side."""
    nodes = list(nodes)
    for node in nodes:
        node.begin_to_stop()
    for node in nodes:
        node.stop()


def caught_up(master: Node, replicas: Iterable[Node]) -> None:
    """Return once *replicas* have everything that *master* has been told until now, by whichever connection; WAIT knows only its own."""
    goal = int(master.info("replication")["master_repl_offset"])
    for replica in replicas:
        until(partial(_has_read, replica, goal), f"{replica} has read up to {goal}")


def _has_read(replica: Node, goal: int) -> bool:
    return int(replica.info("replication")["slave_repl_offset"]) >= goal


class Topology:
    """Several processes that are started together, and stopped together whatever happens."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End every process; safe to call again."""
        raise NotImplementedError
