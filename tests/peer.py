"""A peer that misbehaves on purpose: it shakes hands like a server, and then answers as its script says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import hiredis

GREETING = {
    b"HELLO": b"%1\r\n+proto\r\n:3\r\n",
    b"CLIENT": b"+OK\r\n",
    b"SELECT": b"+OK\r\n",
    b"TRACKING": b"+OK\r\n",
    b"PING": b"+PONG\r\n",
}


class Close(Exception):
    """Raised by a script to close the connection after sending *last*."""

    def __init__(self, last: bytes = b"") -> None:
        self.last = last


class Peer:
    """Listens on loopback. *script* gets each command after the handshake and returns the bytes to answer."""

    def __init__(self, script: Callable[[list[bytes]], bytes]) -> None:
        self.script = script
        self.greeting = dict(GREETING)
        self.commands: list[list[bytes]] = []
        self.reads: list[int] = []
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def send(self, data: bytes, connection: int = -1) -> None:
        """Send bytes that nobody asked for."""
        self.connections[connection].sendall(data)

    def close(self) -> None:
        # shutdown wakes the threads that wait in accept and recv; close alone would not
        for sock in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader(notEnoughData=None)
        greeted = False
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(1 << 20):
                reader.feed(data)
                arrived, out = list(iter(reader.gets, None)), b""
                for index, command in enumerate(arrived):
                    if not greeted:
                        greeted = command[0] == b"PING"
                        out += self.greeting[b"TRACKING" if command[1:2] == [b"TRACKING"] else command[0].upper()]
                        continue
                    if (command == [b"MULTI"] and arrived[index + 1 : index + 2] == [[b"DISCARD"]]) or command == [b"DISCARD"]:
                        out += b"+OK\r\n"  # the question whether transactions are allowed; scripts need not know of it
                        continue
                    self.commands.append(command)
                    try:
                        out += self.script(command)
                    except Close as end:
                        connection.sendall(out + end.last)
                        return
                self.reads.append(len(arrived))
                if out:
                    connection.sendall(out)


@contextlib.contextmanager
def peer(script: Callable[[list[bytes]], bytes]) -> Iterator[Peer]:
    one = Peer(script)
    try:
        yield one
    finally:
        one.close()
