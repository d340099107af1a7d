"""What is read and written: the server, the values, and how a reply is known to be right. A benchmark of misses is worthless."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

KEY = "42"
VALUE = {
    "id": 42,
    "email": "ada.lovelace@example.org",
    "name": "Ada Lovelace",
    "created_at": "2026-01-01T00:00:00Z",
    "bio": "Wrote the first program, for a machine that was never built, in the notes to a translation.",
}
BODY = json.dumps(VALUE).encode()  # about 200 bytes
LARGE = bytes(range(256)) * 64  # 16 KiB

AsyncCall = Callable[[], Awaitable[Any]]
SyncCall = Callable[[], Any]
Expect = Callable[[Any], Any]


@dataclass(frozen=True)
class Server:
    """Where a server of the benchmark's own listens; of a cluster, one of its masters."""

    host: str
    port: int
    scheme: str = "redis"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True)
class Peer:
    """A name for the table, and a context manager that yields the call to measure; *callers* where it is not the scenario's."""

    name: str
    open: Callable[[Server, int], Any]
    callers: int | None = None


def expect_value(reply: Any) -> Any:
    """Return *reply* if it is the value, decoded or not."""
    value = json.loads(reply) if isinstance(reply, bytes) else reply
    if value != VALUE:
        raise RuntimeError(f"a peer returned {reply!r} instead of the value")
    return reply


def expect_large(reply: Any) -> Any:
    """Return *reply* if it is the large value."""
    if reply != LARGE:
        raise RuntimeError("a peer returned something else than the large value")
    return reply


def expect_stored(reply: Any) -> Any:
    """Return *reply* if it is a way to say that a value was stored. That it is there, each writer looks up at its end."""
    if reply not in (True, None, "OK", b"OK"):
        raise RuntimeError(f"a peer answered {reply!r} to SET")
    return reply
