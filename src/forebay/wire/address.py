"""Where one server listens: a TCP host and port, or the path of a Unix socket."""

from __future__ import annotations

from msgspec import Struct

from ..errors import SettingsError
from ..settings import Settings

__all__ = ["Address", "standalone_address"]


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
    """Return the address that *settings* name.

    Raises:
        SettingsError: they name a topology that this release cannot connect to.
    """
    if settings.topology in ("sentinel", "cluster") or settings.tls:
        kind = "TLS" if settings.tls else settings.topology
        raise SettingsError(f"{settings.where}: {kind} connections are not supported yet; use redis://, unix:// or embedded://")
    if settings.path is not None:
        return Address(path=settings.path)
    host, port = settings.hosts[0]
    return Address(host=host, port=port)
