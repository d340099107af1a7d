"""``SCAN`` over a whole cluster looks like one ``SCAN``: the cursor says also at which node the walk has arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import InvalidCommand
from .address import Address
from .call import Call
from .node import Node
from .resp import Arg, Reply, pack

__all__ = ["Walk"]

_BITS: Final = 12  # for the number of the node, below the node's own cursor


class Walk:
    """Numbers primaries in the order in which they were first seen, so that one that joins comes last and is not left out."""

    def __init__(self) -> None:
        self._order: list[Address] = []

    async def step(self, call: Call, primaries: Sequence[Node]) -> Reply:
        """Send one ``SCAN`` to the node that its cursor names; return its reply with the next cursor of the walk.

        Raises:
            InvalidCommand: the cursor is no number.
        """
        serving = {node.address: node for node in sorted(primaries, key=lambda node: str(node.address))}
        self._order += [address for address in serving if address not in self._order]
        name, cursor, *rest = call.commands[0] if len(call.commands[0]) > 1 else (*call.commands[0], 0)
        number = _number(cursor)
        place, within = number & ((1 << _BITS) - 1), number >> _BITS
        while place < len(self._order) and self._order[place] not in serving:
            place, within = place + 1, 0
        if place >= len(self._order):
            return [b"0", []]
        call.packed = [pack((name, within, *rest))]
        after, names = await call.send(serving[self._order[place]])
        place, within = (place, int(after)) if int(after) else (place + 1, 0)
        done = place >= len(self._order)
        return [b"0" if done else b"%d" % (within << _BITS | place), names]


def _number(cursor: Arg) -> int:
    try:
        return int(bytes(cursor) if isinstance(cursor, memoryview) else cursor)
    except ValueError:
        raise InvalidCommand(f"SCAN's cursor is a number, not {cursor!r}") from None
