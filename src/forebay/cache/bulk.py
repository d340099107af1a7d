"""Many keys at once: one read, one call of the loader for what is missing, one write. A lease for each key, as for a single one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, Unpack

from ..errors import EncodeError, ServerError, Unavailable, UsageError
from ..events import StaleServed
from ..keys import Key
from ..port.port import Arg
from .entry import Versions, new_token, placeholder
from .flights import Flight, aloft
from .freshness import Freshness, FreshnessOptions, Verdict
from .loading import Load, Tags
from .loads import CacheLoads
from .looking import Look, Seen, State
from .onekey import OneKey, mapping_from
from .unstored import LeftOut

__all__ = ["CacheBulk"]

T = TypeVar("T")

_NAME: Final = "get_or_set_many"


class CacheBulk(CacheLoads[T]):
    """`get_or_set_many`."""

    async def get_or_set_many(
        self,
        keys: Iterable[Key],
        loader: Callable[[list[Key]], Mapping[Key, T] | Awaitable[Mapping[Key, T]]],
        *,
        tags: Tags = (),
        **options: Unpack[FreshnessOptions],
    ) -> dict[Key, T]:
        """Return the values of *keys*, in their order; *loader* is called once with the list of those that are missing.

        What its mapping leaves out is None, which is stored if it is a value of the cache's type, and otherwise asked for again.
        Keys that somebody else is loading are waited for, after those loaded here are stored: two callers who want the same keys
        never wait for each other in a circle.

        Args:
            tags: for all that is loaded; or a function of each value.
            options: those of `bay.cache`, for this call.

        Raises:
            As `get_or_set`.
        """
        freshness = self._options(options)
        wanted = list(dict.fromkeys(keys))
        loads = {key: self._load(self._space.name(key), key, _none, tags, freshness) for key in wanted}
        found = await self._found(wanted, _NAME)
        missing = [key for key in wanted if key not in found]
        if missing:
            mine, others, stale = await self._leased(missing, loads, found)
            met = [key for key in missing if key in found]
            self._tally.hit(_NAME, met, len(met))
            self._tally.missed(_NAME, mine, stale)
            if mine:
                found |= await self._load_or_stale(mine, loads, loader, freshness, stale)
            for key in others:  # one after the other: they are being loaded, or have been meanwhile; counted as what they come to
                with suppress(LeftOut):
                    found[key] = await self.get_or_set(key, OneKey(loader, key, takes_none=self._takes_none(key)), tags=tags, **options)
        return {key: found.get(key) for key in wanted}  # type: ignore[misc]  # what was left out is None, whatever the type

    async def _leased(
        self, keys: Sequence[Key], loads: Mapping[Key, Load], found: dict[Key, T]
    ) -> tuple[dict[Key, bytes], list[Key], dict[Key, Seen]]:
        """Take leases, for what is absent in one round trip, for what is dead or stale in another.

        Returns:
            The tokens of those that were had (empty ones without a server), the keys that others have, and stale values. What
            was stored meanwhile is added to *found*.
        """
        tokens = {key: new_token() for key in keys}
        commands: list[tuple[Arg, ...]] = [
            ("set", loads[key].name, placeholder(token), "NX", "GET", "PX", self._leases.lasting) for key, token in tokens.items()
        ]
        mine: dict[Key, bytes] = {}
        again: dict[Key, Seen] = {}
        others: list[Key] = []
        asked = {loads[key].name: token for key, token in tokens.items()}
        try:
            replies = await self._port.execute_many(commands, idempotent=True)
            current = await self._book.all_current(Look.depends_on(reply for reply in replies if isinstance(reply, bytes)))
            for (key, token), reply in zip(tokens.items(), replies, strict=True):
                if reply is None or reply == placeholder(token):
                    mine[key] = token
                elif isinstance(reply, ServerError):
                    again[key] = self._look.unusable(reply, key, "get_or_set_many")
                else:
                    seen = await self._judged(reply, None, loads[key].name, key, "get_or_set_many", current)
                    if seen.state is State.LEASED or (seen.entry is not None and seen.entry.lease_until > self._clock.now()):
                        others.append(key)
                    elif seen.state is State.LIVE and self._verdict(seen, loads[key].freshness, plainly=True) is Verdict.FRESH:
                        found[key] = seen.value
                    else:
                        again[key] = seen
            for key, seen in again.items():
                had, _ = await self._leases.acquire(loads[key].name, seen)
                if had is None:
                    others.append(key)
                else:
                    mine[key] = asked[loads[key].name] = had
        except Unavailable as error:  # any may have been taken, and nobody should wait for it
            self._port.background(self._leases.release(asked))
            self._write_failed("get_or_set_many", list(keys), error)
            return dict.fromkeys((key for key in keys if key not in found), b""), [], {}
        except BaseException:  # also a cancellation
            self._leases.let_go(asked)
            raise
        return mine, others, {key: seen for key, seen in again.items() if seen.state is State.LIVE and key in mine}

    async def _load_or_stale(
        self,
        mine: dict[Key, bytes],
        loads: Mapping[Key, Load],
        loader: Callable[[list[Key]], Any],
        freshness: Freshness,
        stale: Mapping[Key, Seen],
    ) -> dict[Key, T]:
        try:
            loaded = await self._load_many(mine, loads, loader, freshness)
        except Exception as error:
            now = self._clock.now() if stale else 0.0
            kept = {key: seen for key, seen in stale.items() if now - _fresh_until(seen) < freshness.stale_if_error}
            if isinstance(error, UsageError) or kept.keys() != mine.keys():
                self._tally.missed(_NAME, stale)
                raise
            self._tally.hit(_NAME, kept, len(kept), stale=True)
            self._report(StaleServed, error, "get_or_set_many", list(mine))
            return {key: seen.value for key, seen in kept.items()}
        self._tally.missed(_NAME, stale)
        return loaded

    async def _load_many(
        self, mine: dict[Key, bytes], loads: Mapping[Key, Load], loader: Callable[[list[Key]], Any], freshness: Freshness
    ) -> dict[Key, T]:
        kept = [self._leases.keep(loads[key].name, token) for key, token in mine.items() if token]
        filled: set[Key] = set()
        context = aloft.set(aloft.get() | {Flight.under(loads[key].name, token) for key, token in mine.items() if token})
        try:
            tags = next(iter(loads.values())).tags
            names = (*self._spaces, self._space.clock) if callable(tags) else (*self._spaces, *tags)
            versions: Versions | None = await self._versions(names, freshness, list(mine))
            began = time.monotonic()
            loaded = await self._called(loader, list(mine), freshness)
            load_ms = (time.monotonic() - began) * 1000
            values = {key: loaded.get(key) for key in mine if key in loaded or self._takes_none(key)}
            packed = {key: self._coding.encode(value, loads[key].name) for key, value in values.items()}
            if versions is not None:
                filled = await self._fill_many(mine, loads, values, packed, versions, load_ms)
        finally:
            aloft.reset(context)
            for stop in kept:
                stop()
            self._leases.let_go({loads[key].name: token for key, token in mine.items() if token and key not in filled})
        return {key: self._coding.decode(data, loads[key].name) for key, data in packed.items()}

    def _takes_none(self, key: Key) -> bool:
        """Whether None is a value of the cache's type."""
        try:
            self._coding.encode(None, self._space.name(key))
        except EncodeError:
            return False
        return True

    async def _versions(self, names: Sequence[str], freshness: Freshness, keys: object) -> Versions | None:
        try:
            return await self._book.record(names, self._loading.kept(freshness)) if names else ()
        except (Unavailable, ServerError) as error:
            self._write_failed("get_or_set_many", keys, error)
            return None

    async def _called(self, loader: Callable[[list[Key]], Any], keys: list[Key], freshness: Freshness) -> Mapping[Key, Any]:
        asked, began = tuple(keys), time.monotonic()
        try:
            mapping = mapping_from(await self._port.call(lambda: loader(keys), freshness.hard_timeout))
        except BaseException as error:
            self._tally.load_failed(_NAME, asked, time.monotonic() - began, error)
            raise
        self._tally.loaded(_NAME, asked, time.monotonic() - began)
        return mapping

    async def _fill_many(
        self,
        mine: Mapping[Key, bytes],
        loads: Mapping[Key, Load],
        values: Mapping[Key, Any],
        packed: Mapping[Key, bytes],
        versions: Versions,
        load_ms: float,
    ) -> set[Key]:
        """Store what was loaded, where the lease still holds; return the keys that were."""
        fills: list[tuple[Key, bytes, bytes, int | None]] = []
        try:
            for key, token in mine.items():
                if token and key in packed:
                    recorded = await self._loading.recorded(loads[key], values[key], versions)
                    if recorded is not None:
                        data, kept = await self._loading.store(loads[key], values[key], packed[key], recorded, load_ms)
                        fills.append((key, token, data, kept))
            outcome = await self._leases.fill_many([(loads[key].name, token, data, kept) for key, token, data, kept in fills])
        except (Unavailable, ServerError) as error:
            self._write_failed("get_or_set_many", list(mine), error)
            return set()
        stored = {fill[0] for fill, well in zip(fills, outcome, strict=True) if well}
        for key, token in mine.items():
            if token and key in packed and key not in stored:
                self._tally.refused(_NAME, key)
        return stored


def _fresh_until(seen: Seen) -> float:
    return seen.entry.fresh_until if seen.entry is not None else 0.0


def _none() -> None:
    """Stands for a loader in what is not loaded one by one."""
