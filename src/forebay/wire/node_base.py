"""What both colours of a node hold and count alike; how they connect and send is their own."""

from __future__ import annotations

from typing import Final

from ..errors import ConnectFailed
from .address import Address
from .handshake import Role
from .node import Setup
from .resilience import Breaker
from .stats import Meter, NodeStats

__all__ = ["MOST_LARGE", "PROBE_TIMEOUT", "NodeBase"]

PROBE_TIMEOUT: Final = 0.5
MOST_LARGE: Final = 1024


class NodeBase:
    """One server's address, its breaker, its counts, and the commands whose last reply was large."""

    def __init__(self, address: Address, role: Role, setup: Setup) -> None:
        self.address = address
        self.role = role
        self.breaker = Breaker(str(address))
        self.may_transact = False
        self._setup = setup
        self._settings = setup.settings
        self._meter = Meter()
        self._large: set[bytes] = set()
        self._closed = False

    def _check_open(self) -> None:
        """Refuse what comes after the end: the route knows whether it has another node, or is closed itself."""
        if self._closed:
            raise ConnectFailed(f"{self.address} is not used any more")

    def _connected(self) -> None:
        """Note that a connection was opened."""
        self.breaker.succeeded()
        self._meter.dialled += 1
        self._meter.reconnects += self._meter.dropped > 0

    def _remember_large(self, command: bytes) -> None:
        if len(self._large) >= MOST_LARGE:
            self._large.pop()
        self._large.add(command)

    def _numbers(self, *, connections: int, idle: int, in_flight: int) -> NodeStats:
        counts = {name: getattr(self._meter, name) for name in Meter.__slots__}
        return NodeStats(
            address=str(self.address),
            role=self.role,
            breaker=self.breaker.state,
            connections=connections,
            idle=idle,
            in_flight=in_flight,
            **counts,
        )
