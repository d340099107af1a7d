"""What a loader returned and is not to be stored: it passes the cache as an error, which reaches everybody who waits for that load."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import UsageError

__all__ = ["LeftOut", "Unstored", "copied"]


class Unstored(UsageError):  # of this kind, for a stale value may not stand in for it, as it may where a loader failed
    """Carries a result past the cache to all who wait for it."""

    def __init__(self, value: Any, owner: object, name: str) -> None:
        super().__init__(f"a result of {name} was not stored, as its unless= says")
        self._value = value
        self._spare = copied(value)  # now: whoever wakes first may change the result before another one copies it
        self._owner = owner

    def value_for(self, caller: object) -> Any:
        """Return the result: itself to the call that made it, a copy to all others, for a mutable value must not be shared."""
        return self._value if caller is self._owner else copied(self._spare)


class LeftOut(Unstored):
    """A loader of many keys left this one out, and None is no value of its type. Whoever has another loader asks that."""

    def __init__(self, name: str) -> None:
        super().__init__(None, None, name)

    def __str__(self) -> str:
        return "the loader of get_or_set_many left the key out, and None is no value of this cache's type"


def copied(value: Any) -> Any:
    """Return a deep copy of *value*; *value* itself if there can be none."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - whatever a class does when it is copied
        return value
