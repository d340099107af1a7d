"""Which node serves which slot, as one node of the cluster said, and as redirections have corrected it since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..errors import ConnectFailed
from ..settings import Settings
from .address import Address, mapped, read_address
from .slots import SLOTS

__all__ = ["Shard", "read_redirection", "read_shards"]

_HIGHEST_PORT: Final = 65535

Shard = tuple[int, int, Address, tuple[Address, ...]]
"""First slot, last slot, primary, replicas."""


def read_shards(reply: Any, asked: Address, settings: Settings) -> list[Shard]:
    """Return the reply to ``CLUSTER SLOTS``, each address as it can be reached. What a node leaves out of its own address is *asked*'s.

    Raises:
        ConnectFailed: the reply cannot be read.
    """
    shards: list[Shard] = []
    try:
        for first, last, primary, *replicas in reply:
            if not (type(first) is type(last) is int and 0 <= first <= last < SLOTS):
                raise ValueError(f"slots {first} to {last}")
            reachable = [_address(replica, asked, settings) for replica in replicas]
            address = _address(primary, asked, settings)
            if address is not None:
                shards.append((first, last, address, tuple(replica for replica in reachable if replica is not None)))
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise ConnectFailed(f"{asked} described its cluster in a way that cannot be read: {error}") from error
    return shards


def read_redirection(node: str, asked: Address, settings: Settings) -> Address:
    """Return the address in ``MOVED`` or ``ASK``; an empty host stands for that of the node that was *asked*."""
    announced = read_address(node)
    return mapped(announced.host or asked.host, announced.port, settings)


def _address(entry: Sequence[Any], asked: Address, settings: Settings) -> Address | None:
    host, port = entry[0], entry[1]
    if isinstance(port, bytes):
        port = int(port)
    if not isinstance(port, int) or not 0 < port <= _HIGHEST_PORT or not isinstance(host, bytes | str | None):
        raise ValueError(f"a node at {host!r}, {port!r}")
    if host in (b"?", "?"):  # the node does not know that one's address
        return None
    name = (host.decode() if isinstance(host, bytes) else host) or asked.host
    return mapped(name, port, settings)
