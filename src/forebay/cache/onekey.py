"""A loader of many keys, called for one of them. What its mapping leaves out is None, if None is a value of the cache's type."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..keys import Key
from .unstored import LeftOut

__all__ = ["OneKey", "mapping_from"]


class OneKey:
    """Calls *loader* with a list of *key* alone; an awaitable is left to the port, which knows what to do with one."""

    def __init__(self, loader: Callable[[list[Key]], Any], key: Key, *, takes_none: bool) -> None:
        self._loader = loader
        self._key = key
        self._takes_none = takes_none

    def __call__(self) -> Any:
        loaded = self._loader([self._key])
        return self._awaited(loaded) if inspect.isawaitable(loaded) else self._value_in(loaded)

    async def _awaited(self, loaded: Awaitable[Any]) -> Any:
        return self._value_in(await loaded)

    def _value_in(self, loaded: Any) -> Any:
        mapping = mapping_from(loaded)
        if self._key not in mapping and not self._takes_none:
            raise LeftOut(repr(self._loader))
        return mapping.get(self._key)


def mapping_from(loaded: Any) -> Mapping[Key, Any]:
    """Return *loaded*, which a loader of many keys returned.

    Raises:
        TypeError: it is no mapping.
    """
    if not isinstance(loaded, Mapping):
        raise TypeError(f"the loader of get_or_set_many returns a mapping of keys to values, not {type(loaded).__name__}")
    return loaded
