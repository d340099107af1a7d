"""Where one server listens: a TCP host and port, or the path of a Unix socket."""

from __future__ import annotations

from msgspec import Struct

from ..settings import Settings

__all__ = ["Address", "mapped", "read_address", "standalone_address"]


class Address(Struct, frozen=True):
    """One listening socket. ``str(address)`` is how messages name it."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def standalone_address(settings: Settings) -> Address:
    """Return the address that *settings* name for a single server."""
    if settings.path is not None:
        return Address(path=settings.path)
    host, port = settings.hosts[0]
    return Address(host, port)


def mapped(host: str, port: int, settings: Settings) -> Address:
    """Return where a server that announces itself as *host* and *port* is really reached: as announced, or as ``host_map`` says."""
    announced = Address(host, port)
    reachable = (settings.host_map or {}).get(str(announced))
    return announced if reachable is None else read_address(reachable)


def read_address(text: str) -> Address:
    """Return the address written as ``host:port``, the host perhaps in brackets."""
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))
