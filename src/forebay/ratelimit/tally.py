"""What one limiter counts. Each step is one ``+=`` on a slot, which needs no lock: see `forebay.cache.tally`."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["LimitStats", "LimitTally"]


class LimitStats(Struct, frozen=True):
    """A snapshot of one limiter, since the bay was made.

    ``allowed`` and ``refused`` count decisions of `hit`, of `acquire` and of several at once, each limiter for itself. ``remembered``
    are those of the refusals that cost no round trip, ``leased`` those let through from units taken before. ``shadowed`` would have
    been refused, ``exempt`` were never counted on the server, ``undecided`` fell to ``on_outage``: all three are in ``allowed`` or
    ``refused`` as well.
    """

    allowed: int
    refused: int
    remembered: int
    leased: int
    shadowed: int
    exempt: int
    undecided: int


class LimitTally:
    """The counts of one name, shared by all limiters of that name in a bay."""

    __slots__ = ("allowed", "exempt", "leased", "refused", "remembered", "shadowed", "undecided")

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    allowed: int
    exempt: int
    leased: int
    refused: int
    remembered: int
    shadowed: int
    undecided: int

    def stats(self) -> LimitStats:
        """Return a snapshot."""
        return LimitStats(**{name: getattr(self, name) for name in LimitStats.__struct_fields__})
