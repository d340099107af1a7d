"""Watches a server for as long as tests use it: no key of a session, a token or a limit is ever without a lifetime."""

from __future__ import annotations

import threading
import time
from typing import Self

from forebay import EmbeddedServer, Forebay

__all__ = ["Scanner"]

_PAUSE = 0.02


class Scanner:
    """A thread that walks over all keys again and again. ``found`` are those that had no lifetime, ``seen`` counts looks."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._url = server.url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="scanner", daemon=True)
        self.found: set[bytes] = set()
        self.seen = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> set[bytes]:
        """Walk over all keys once, and return those that have no lifetime."""
        with Forebay(self._url) as bay:
            self._walk(bay)
        return self.found

    def _watch(self) -> None:
        with Forebay(self._url) as bay:
            while True:
                began = time.monotonic()
                self._walk(bay)
                if self._over.wait(max(_PAUSE, 9 * (time.monotonic() - began))):  # a tenth of its time, however many keys there are
                    return

    def _walk(self, bay: Forebay) -> None:
        for pattern in ("*session:{*", "*token:*", "*limit:{*"):
            cursor = b"0"
            while True:
                cursor, names = bay.execute("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                lifetimes = bay.pipeline([("PTTL", name) for name in names]) if names else []
                self.seen += len(names)
                self.found.update(name for name, left in zip(names, lifetimes, strict=True) if left == -1)
                if cursor == b"0":
                    break
