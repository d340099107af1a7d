"""A forked child starts empty: connections, locks and loads of the parent are the parent's, and no two processes share a socket."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Forked", "renew_after_fork"]


class Forked(Protocol):
    """Something with state that a child must not inherit."""

    def renew(self) -> None:
        """Begin anew, in the child. No other thread runs, and locks may be held by threads that are not there."""


_known: weakref.WeakSet[Forked] = weakref.WeakSet()


def renew_after_fork(thing: Forked) -> None:
    """Call ``thing.renew()`` in every forked child, for as long as *thing* lives."""
    _known.add(thing)


def _renew_all() -> None:
    for thing in list(_known):
        thing.renew()


os.register_at_fork(after_in_child=_renew_all)
