"""Many keys at once: one read, one call of the loader for what is missing, one write. A lease for each key, as for a single one."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, Unpack

from ..errors import ServerError, Unavailable, UsageError
from ..events import StaleServed
from ..keys import Key
from ..port.port import Arg
from .entry import Versions, new_token, placeholder
from .flights import Flight, aloft
from .freshness import Freshness, FreshnessOptions, Verdict
from .loading import Load, Tags
from .loads import CacheLoads
from .looking import Look, Seen, State

__all__ = ["CacheBulk"]

T = TypeVar("T")


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

        What its mapping leaves out is None. Keys that somebody else is loading are waited for, after those loaded here are
        stored: two callers who want the same keys never wait for each other in a circle.

        Args:
            tags: for all that is loaded; or a function of each value.
            options: those of `bay.cache`, for this call.

        Raises:
            As `get_or_set`.
        """
        freshness = self._options(options)
        wanted = list(dict.fromkeys(keys))
        loads = {key: self._load(self._space.name(key), key, _none, tags, freshness) for key in wanted}
        found = await self.get_many(wanted)
        missing = [key for key in wanted if key not in found]
        if missing:
            mine, others, stale = await self._leased(missing, loads, found)
            if mine:
                found |= await self._load_or_stale(mine, loads, loader, freshness, stale)
            for key in others:  # one after the other: they are being loaded, or have been meanwhile
                one = partial(_one, loader, key)
                found[key] = await self.get_or_set(key, one, tags=tags, **options)
        return {key: found[key] for key in wanted}

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
                    mine[key] = had
        except Unavailable as error:
            self._write_failed("get_or_set_many", list(keys), error)
            return dict.fromkeys((key for key in keys if key not in found), b""), [], {}
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
            return await self._load_many(mine, loads, loader, freshness)
        except UsageError:
            raise
        except Exception as error:
            now = self._clock.now() if stale else 0.0
            kept = {key: seen for key, seen in stale.items() if now - _fresh_until(seen) < freshness.stale_if_error}
            if kept.keys() != mine.keys():
                raise
            self._report(StaleServed, error, "get_or_set_many", list(mine))
            self._tally.stale += len(kept)
            return {key: seen.value for key, seen in kept.items()}

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
            values = {key: loaded.get(key) for key in mine}
            packed = {key: self._coding.encode(value, loads[key].name) for key, value in values.items()}
            if versions is not None:
                filled = await self._fill_many(mine, loads, values, packed, versions, load_ms)
        finally:
            aloft.reset(context)
            for stop in kept:
                stop()
            for key, token in mine.items():
                if token and key not in filled:
                    self._port.launch(self._leases.release(loads[key].name, token))
        return {key: self._coding.decode(packed[key], loads[key].name) for key in mine}

    async def _versions(self, names: Sequence[str], freshness: Freshness, keys: object) -> Versions | None:
        try:
            return await self._book.record(names, self._loading.kept(freshness)) if names else ()
        except (Unavailable, ServerError) as error:
            self._write_failed("get_or_set_many", keys, error)
            return None

    async def _called(self, loader: Callable[[list[Key]], Any], keys: list[Key], freshness: Freshness) -> Mapping[Key, Any]:
        try:
            loaded = await self._port.call(lambda: loader(keys), freshness.hard_timeout)
        except BaseException:
            self._tally.load_errors += 1
            raise
        if not isinstance(loaded, Mapping):
            raise TypeError(f"the loader of get_or_set_many returns a mapping of keys to values, not {type(loaded).__name__}")
        self._tally.loads += 1
        return loaded

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
                if token:
                    recorded = await self._loading.recorded(loads[key], values[key], versions)
                    if recorded is not None:
                        data, kept = await self._loading.store(loads[key], values[key], packed[key], recorded, load_ms)
                        fills.append((key, token, data, kept))
            outcome = await self._leases.fill_many([(loads[key].name, token, data, kept) for key, token, data, kept in fills])
        except (Unavailable, ServerError) as error:
            self._write_failed("get_or_set_many", list(mine), error)
            return set()
        stored = {fill[0] for fill, well in zip(fills, outcome, strict=True) if well}
        self._tally.refused_fills += len(fills) - len(stored)
        return stored


def _fresh_until(seen: Seen) -> float:
    return seen.entry.fresh_until if seen.entry is not None else 0.0


def _none() -> None:
    """Stands for a loader in what is not loaded one by one."""


def _one(loader: Callable[[list[Key]], Any], key: Key) -> Any:
    """Call *loader* for *key* alone; an awaitable is left to the port, which knows what to do with one."""
    loaded = loader([key])
    return _got(loaded, key) if inspect.isawaitable(loaded) else loaded.get(key)


async def _got(loaded: Awaitable[Mapping[Key, Any]], key: Key) -> Any:
    return (await loaded).get(key)
