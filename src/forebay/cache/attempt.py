"""One call of a warming's loader: the cache calls it with a list of one key, and it calls the loader with that key."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..keys import Key

__all__ = ["Attempt"]


class Attempt:
    """Calls the loader with its key. Remembers whether it returned, or which error is its own and no word about the server.

    ``unusable`` is set if the loader is not one for this colour: then no key can be loaded.
    """

    def __init__(self, loader: Callable[[Any], Any], key: Key, *, awaits: bool) -> None:
        self._loader = loader
        self._key = key
        self._awaits = awaits
        self.loaded = False
        self.error: Exception | None = None
        self.unusable: TypeError | None = None

    def __call__(self, keys: list[Key]) -> Any:
        try:
            value = self._loader(self._key)
        except Exception as error:
            self.error = error
            raise
        if inspect.isawaitable(value):
            if self._awaits:
                return self._awaited(value, keys)
            self.unusable = self._refused(value)
            raise self.unusable
        self.loaded = True
        return dict.fromkeys(keys, value)

    async def _awaited(self, value: Awaitable[Any], keys: list[Key]) -> Mapping[Key, Any]:
        try:
            loaded = await value
        except Exception as error:
            self.error = error
            raise
        self.loaded = True
        return dict.fromkeys(keys, loaded)

    def _refused(self, value: Awaitable[Any]) -> TypeError:
        if inspect.iscoroutine(value):
            value.close()
        return TypeError(f"{self._loader!r} returned an awaitable: a sync cache needs a plain function, or use AsyncForebay")
