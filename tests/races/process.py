"""Another process that reads and writes on order: a real Python child with a bay of its own, told through a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from forebay import Forebay

__all__ = ["Process", "Told", "invalidate"]


def invalidate(cache: Any, bay: Any, writer: str, key: str, name: str) -> Any:
    """Do what *writer* stands for, in either colour: what is returned is to be awaited in one of them."""
    if writer == "delete":
        return cache.delete(key)
    if writer == "invalidate_tags":
        return cache.invalidate_tags("t")
    if writer == "mark_stale":
        return cache.mark_stale(key)
    if writer == "clear":
        return cache.clear()
    if writer == "set":
        return cache.set(key, "new", tags=["t"])
    if writer == "DEL":
        return bay.execute("DEL", name)
    assert writer == "SET", writer
    return bay.execute("SET", name, '"new"')


class Told:
    """A child that is told and says a line of JSON at a time, as its parent sees it."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None) -> None:
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def tell(self, **order: Any) -> None:
        """Give an order, and do not wait for its end."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()

    def hear(self) -> Any:
        """Return what the child says next."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, "the child has ended"
        return json.loads(line)

    def close(self) -> None:
        """End it by the end of its orders; safe to call again."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        self._child.wait(10)


class Process(Told):
    """The child that reads and writes."""

    def __init__(self, url: str) -> None:
        super().__init__([sys.executable, __file__, url])

    @property
    def pid(self) -> int:
        return self._child.pid

    def hear(self) -> Any:
        """Return the result of an order."""
        said = super().hear()
        assert "error" not in said, said
        return said["result"]

    def ask(self, **order: Any) -> Any:
        """Give an order and return its result."""
        self.tell(**order)
        return self.hear()

    def kill(self) -> None:
        """End it with SIGKILL, in the midst of whatever it does."""
        self._child.kill()
        self.close()


class _Bay:
    """The child's bay: a new one for each prefix, that is for each test."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._bay: Forebay | None = None

    def under(self, prefix: str) -> Forebay:
        if self._bay is None or self._bay.prefix != prefix:
            self.close()
            self._bay = Forebay(self._url, prefix=prefix).connect()
        return self._bay

    def close(self) -> None:
        if self._bay is not None:
            self._bay.close()


def _obey(bay: Forebay, order: dict[str, Any]) -> Any:
    cache = bay.cache("c", ttl=60, **order["options"])
    if order["do"] == "invalidate":
        invalidate(cache, bay, order["writer"], "k", f"{order['prefix']}c:k")
        return None
    if order["do"] == "get":
        return cache.get("k")
    if order["do"] == "load and hang":

        def hang() -> None:
            print(json.dumps({"result": "loading"}), flush=True)
            sys.stdin.read()

        return cache.get_or_set("k", hang)
    assert order["do"] == "load", order
    return cache.get_or_set("k", lambda: order["value"], tags=order["tags"])


def main() -> None:
    """Obey orders, a line of JSON each, until there are no more."""
    bay = _Bay(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            said = {"result": _obey(bay.under(order["prefix"]), order)}
        except Exception as error:  # noqa: BLE001 - it is raised by whoever gave the order
            said = {"error": repr(error)}
        print(json.dumps(said), flush=True)
    bay.close()


if __name__ == "__main__":
    main()
