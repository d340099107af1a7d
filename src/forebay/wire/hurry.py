"""Who has less time than the read timeout to be answered is told by how the command's name is written: no timer is set for any of them.

``get`` has what the cache may add to a request, ``Evalsha`` what the decision about a limit may take, ``GET`` the read timeout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = ["CACHE", "DECISION", "EVAL", "EVALSHA", "HURRIES", "PATIENT", "hurry_of", "patience_of", "variable_of"]

PATIENT: Final = 0
CACHE: Final = 1
DECISION: Final = 2
HURRIES: Final = (CACHE, DECISION)
EVALSHA: Final = ("EVALSHA", "evalsha", "Evalsha")
EVAL: Final = ("EVAL", "EVAL", "Eval")  # a script is sent whole once, and for that a cache has time
_LOWER: Final = 0x60  # the byte before "a"


def hurry_of(packed: bytes) -> int:
    """Return which of the three a packed command is."""
    at = packed.index(b"\n", packed.index(b"$")) + 1
    if packed[at] > _LOWER:
        return CACHE
    return DECISION if packed[at + 1] > _LOWER else PATIENT


def patience_of(hurry: int, settings: Settings) -> float:
    """Return for how many seconds such commands wait: never longer than all others."""
    if hurry == CACHE:
        return settings.hurry
    return settings.read_timeout if hurry == PATIENT else min(settings.limit_deadline, settings.read_timeout)


def variable_of(hurry: int) -> str:
    """Return what sets it, for messages."""
    return {CACHE: "the cache's budget, REDIS_CACHE_BUDGET", DECISION: "a limit's deadline, REDIS_LIMIT_DEADLINE"}[hurry]
