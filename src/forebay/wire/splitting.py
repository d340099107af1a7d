"""One command over keys of many slots becomes one for each slot, and their replies one reply again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from ..errors import ServerError
from .commands import traits_of
from .resp import Arg, Reply
from .slots import slot_of

__all__ = ["Split", "split"]

_KEYS_ONLY: Final = frozenset({"DEL", "EXISTS", "MGET", "TOUCH", "UNLINK"})


class Split(Struct, frozen=True):
    """The parts of a command, and what puts their replies together, in the order of the parts."""

    parts: list[tuple[Arg, ...]]
    join: Callable[[Sequence[Reply]], Reply]

    def whole(self, replies: Sequence[Reply]) -> Reply:
        """Return the reply to the command as it was given; the first refusal, if there is one."""
        return next((reply for reply in replies if isinstance(reply, ServerError)), None) or self.join(replies)


def split(args: Sequence[Arg]) -> Split | None:
    """Return the parts of a command that can be split and must be; None for any other."""
    name = traits_of(args[0]).name
    if name == "MSET":
        if len(args) < 5 or len(args) % 2 == 0:
            return None
        return _by_slot(args[0], [(args[at], args[at + 1]) for at in range(1, len(args), 2)], lambda replies: replies[0])
    if name not in _KEYS_ONLY or len(args) < 3:
        return None
    if name != "MGET":
        return _by_slot(args[0], [(key,) for key in args[1:]], sum)
    order: list[list[int]] = []
    return _by_slot(args[0], [(key,) for key in args[1:]], lambda replies: _in_order(order, replies), order)


def _by_slot(
    name: Arg, units: Sequence[tuple[Arg, ...]], join: Callable[[Sequence[Reply]], Reply], order: list[list[int]] | None = None
) -> Split | None:
    groups: dict[int, list[int]] = {}
    for index, unit in enumerate(units):
        groups.setdefault(slot_of(unit[0]), []).append(index)
    if len(groups) == 1:
        return None
    if order is not None:
        order.extend(groups.values())
    return Split([(name, *(arg for index in group for arg in units[index])) for group in groups.values()], join)


def _in_order(order: Sequence[Sequence[int]], replies: Sequence[Reply]) -> list[Reply]:
    whole: list[Reply] = [None] * sum(map(len, order))
    for places, values in zip(order, replies, strict=True):
        for place, value in zip(places, values, strict=True):
            whole[place] = value
    return whole
