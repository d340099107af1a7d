"""Opens asyncio's connection to an address: a Unix socket, TCP, or TLS over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from .address import Address
from .tls import Tls

__all__ = ["connected"]

P = TypeVar("P", bound=asyncio.Protocol)


async def connected(make: Callable[[], P], address: Address, tls: Tls | None) -> P:
    """Return the protocol that *make* made, connected to *address*.

    Raises:
        OSError, UnicodeError: it cannot be reached.
    """
    loop = asyncio.get_running_loop()
    if address.path is not None:
        return (await loop.create_unix_connection(make, address.path))[1]
    if tls is None:
        return (await loop.create_connection(make, address.host, address.port))[1]
    name = tls.server_name(address.host)
    return (await loop.create_connection(make, address.host, address.port, ssl=tls.context(), server_hostname=name))[1]
