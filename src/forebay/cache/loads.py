"""Reads that load what is missing. A hit costs one command; everything else is looked at with more care."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, Unpack

from msgspec import UNSET, UnsetType

from ..errors import LoaderCancelled, ServerError, Unavailable, UsageError
from ..events import StaleServed
from ..keys import Key
from ..port.port import Reply
from .freshness import Freshness, FreshnessOptions, Verdict, paused
from .invalidation import CacheInvalidation
from .loading import Load, Tags
from .looking import NOTHING, Seen, State
from .onekey import OneKey
from .unstored import LeftOut

__all__ = ["CacheLoads"]

T = TypeVar("T")

_LOOKS: Final = 5  # after so many looks that came too late to share what was found, a caller loads for itself


class CacheLoads(CacheInvalidation[T]):
    """`get_or_set`."""

    async def get_or_set(
        self, key: Key, loader: Callable[[], T | Awaitable[T]], *, tags: Tags = (), **options: Unpack[FreshnessOptions]
    ) -> T:
        """Return the value of *key*; if there is none, call *loader* without arguments, store what it returns, and return that.

        At most one caller in all processes loads: it holds a lease, and the others wait for its value, or share its error
        if they are in the same process. A value that is invalidated while it is loaded is returned to those who asked before,
        and not stored. With the server away the loader is used, and that is reported.

        Args:
            tags: see `invalidate_tags`; a list, or a function of the loaded value.
            options: those of `bay.cache`, for this call.

        Raises:
            InvalidKey, InvalidDuration, SettingsError, MissingTTL: an argument cannot be used.
            EncodeError: the loaded value cannot be stored.
            RecursiveLoad: the loader asks for the key that it loads.
            LoaderTimeout: the loader took longer than ``hard_timeout``.
            Unavailable: only with ``on_outage="raise"``.
            Exception: whatever the loader raised.
        """
        name = self._space.name(key)
        if self._plain:
            data = None
            try:
                data = await self._get(name)
                if data is not None:
                    value = self._decode(data)
                    self._tally.hits += 1
                    return value
                seen: Seen | None = NOTHING
            except Unavailable as error:
                seen = await self._look_again(error, name, key)
            except ServerError as error:  # such as WRONGTYPE
                seen = self._look.unusable(error, key, "get_or_set")
            except self._failures:  # no bare value
                seen = await self._judge(data, name, key)
        else:
            held = self._held(name)
            if held is None and self._tally.tell is not None:
                held = self._held_told(name, key, "get_or_set")
            if held is not None:
                return self._value_of(held, name)
            seen = await self._look_up(name, key)
        freshness = self._options(options)
        load = self._load(name, key, loader, tags, freshness)
        counted = False
        try:
            for _ in range(_LOOKS):
                if seen is not None and seen.state is State.LIVE:
                    verdict = self._verdict(seen, freshness)
                    if verdict is Verdict.FRESH or verdict is Verdict.REFRESH:
                        if not counted:
                            self._tally.hit("get_or_set", (key,), stale=self._verdict(seen, freshness, plainly=True) is not Verdict.FRESH)
                        if verdict is Verdict.REFRESH:
                            self._loading.refresh(load, seen)
                        elif freshness.sliding:
                            self._slide(name, seen)
                        hit: T = seen.value
                        return hit
                    if verdict is Verdict.STALE:
                        outcome = await self._loaded_or_stale(load, seen, freshness, counted=counted)
                        if not isinstance(outcome, UnsetType):
                            return outcome
                        seen = await self._look_up(name, key)
                        continue
                if not counted:
                    counted = True
                    self._tally.missed("get_or_set", (key,))
                packed = await self._loading.share(load, seen)
                if packed is not None:
                    return self._coding.decode(packed, name)
                seen = await self._look_up(name, key)
            if not counted:
                self._tally.missed("get_or_set", (key,))
        except LeftOut:  # by a loader of many keys, whose load this caller shared
            if isinstance(loader, OneKey):
                raise
        return self._coding.decode(await self._loading.alone(load), name)

    async def _look_up(self, name: str, key: Key) -> Seen | None:
        """Look at an entry; None if the server cannot be asked."""
        try:
            return await self._see(name, key, "get_or_set")
        except Unavailable as error:
            self._read_failed("get_or_set", key, error)
            return None

    async def _look_again(self, error: Unavailable, name: str, key: Key) -> Seen | None:
        """Do as `_look_up` after a first read failed with *error*, in what is left of its time."""
        try:
            data = await self._port.again(error, ("get", name))
        except Unavailable as final:
            self._read_failed("get_or_set", key, final)
            return None
        return await self._judge(data, name, key)

    async def _judge(self, data: Reply, name: str, key: Key) -> Seen | None:
        try:
            return await self._judged(data, None, name, key, "get_or_set")
        except Unavailable as error:
            self._read_failed("get_or_set", key, error)
            return None
        except ServerError as error:
            return self._look.unusable(error, key, "get_or_set")

    async def _loaded_or_stale(self, load: Load, seen: Seen, freshness: Freshness, *, counted: bool) -> T | UnsetType:
        """Load; where the loader fails within ``stale_if_error``, or is slower than ``soft_timeout``, return what was *seen*.

        What it comes to is counted here, unless the key is *counted* already. UNSET says that it must be looked at again.
        """
        assert seen.entry is not None  # noqa: S101 - bare values are never stale
        stale: T = seen.value
        past = self._clock.now() - seen.entry.fresh_until
        may_err = past < freshness.stale_if_error
        if paused(seen.entry, freshness, self._clock.now()):
            if not counted:
                self._tally.hit("get_or_set", (load.key,), stale=True)
            return stale
        try:
            packed = await self._loading.share(load, seen, freshness.soft_timeout)
        except Exception as error:
            late = isinstance(error, TimeoutError) and freshness.soft_timeout is not None
            helps = (may_err or late) and not isinstance(error, UsageError | LoaderCancelled)
            if not counted:
                if helps:
                    self._tally.hit("get_or_set", (load.key,), stale=True)
                else:
                    self._tally.missed("get_or_set", (load.key,))
            if not helps:
                raise
            self._report(StaleServed, error, "get_or_set", load.key)
            return stale
        if packed is None:
            return UNSET
        if not counted:
            self._tally.missed("get_or_set", (load.key,))
        return self._coding.decode(packed, load.name)
