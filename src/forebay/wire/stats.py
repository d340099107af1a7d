"""What the wire counts about itself, the same records for both colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from .latency import LatencyStats

__all__ = ["Meter", "NodeStats", "WireStats"]


class Meter:
    """The running counts of one node, shared by its connections. They take no lock: see docs/decisions/0003."""

    __slots__ = ("bytes_received", "bytes_sent", "dialled", "dropped", "hits", "misses", "reconnects", "timeouts")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.timeouts = 0
        self.dialled = 0
        self.dropped = 0
        self.reconnects = 0
        self.bytes_sent = 0
        self.bytes_received = 0


class Counts(Struct, frozen=True):
    """The numbers of one node, or their sums over all.

    ``connections`` are open now, ``idle`` of them have nothing in flight; ``in_flight`` commands await a reply. Since the
    start: ``hits`` and ``misses`` (a connection of the pool was free, or had to be opened), ``timeouts`` (none came free in
    time), ``dialled``, ``dropped`` (lost or given up), ``reconnects`` (dialled after a drop), and bytes.
    """

    connections: int
    idle: int
    in_flight: int
    hits: int
    misses: int
    timeouts: int
    dialled: int
    dropped: int
    reconnects: int
    bytes_sent: int
    bytes_received: int


class NodeStats(Counts, frozen=True):
    """A snapshot of the connections to one server. ``breaker`` is ``closed`` while calls pass."""

    address: str
    role: str
    breaker: str


class WireStats(Counts, frozen=True):
    """A snapshot of a bay's connections: the sums over all nodes, each node, and latencies by command.

    ``retries`` counts commands that were sent again, ``refreshes`` how often sentinels or the cluster were asked anew.
    """

    retries: int
    refreshes: int
    nodes: tuple[NodeStats, ...]
    latency: Mapping[str, LatencyStats]

    @classmethod
    def of(cls, nodes: Iterable[NodeStats], latency: Mapping[str, LatencyStats], retries: int = 0, refreshes: int = 0) -> WireStats:
        """Sum up *nodes*."""
        every = tuple(nodes)
        sums = {name: sum(getattr(node, name) for node in every) for name in Counts.__struct_fields__}
        return cls(**sums, retries=retries, refreshes=refreshes, nodes=every, latency=latency)

    def line(self) -> str:
        """Return the numbers on one line, for a log."""
        breakers = ",".join(f"{node.address}={node.breaker}" for node in self.nodes if node.breaker != "closed") or "closed"
        slowest = max(self.latency.items(), key=lambda item: item[1].p99, default=None)
        latency = f" slowest={slowest[0]} p50={slowest[1].p50 * 1e3:.2f}ms p99={slowest[1].p99 * 1e3:.2f}ms" if slowest else ""
        return (
            f"connections={self.connections} idle={self.idle} in_flight={self.in_flight} hits={self.hits} misses={self.misses} "
            f"timeouts={self.timeouts} reconnects={self.reconnects} retries={self.retries} sent={self.bytes_sent} "
            f"received={self.bytes_received} breaker={breakers}{latency}"
        )
