"""What the wire counts about itself, the same record for both colours."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["WireStats"]


class WireStats(Struct, frozen=True):
    """A snapshot of a bay's connections.

    ``connections`` are open now, ``idle`` of them have nothing in flight; ``in_flight`` commands await a reply;
    ``dialled`` and ``dropped`` count, since the start, connections opened and connections lost or given up.
    """

    connections: int
    idle: int
    in_flight: int
    dialled: int
    dropped: int
