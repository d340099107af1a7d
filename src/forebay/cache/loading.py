"""A miss becomes one load: a lease is taken, the loader called, its value stored while the lease holds; everybody aboard shares it.

What is shared are encoded bytes, so that a miss returns what a hit would, and no two callers share one mutable value.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ..codecs.coding import Coding
from ..errors import LoaderCancelled, RecursiveLoad, ServerError, Unavailable
from ..events import CacheEvent, RefreshFailed
from ..keys import Key
from ..operations import REFRESH
from ..port.clock import ServerClock
from ..port.port import Port
from .entry import NOBODY, Versions, pack_entry
from .flights import Flight, Flights, Found, aloft
from .freshness import Freshness, Verdict, judge, lifetime, paused
from .leases import Leases
from .looking import Look, Seen, State
from .tally import Tally
from .unstored import Unstored
from .versions import VersionBook

__all__ = ["Load", "Loading", "Tags"]

Tags = Iterable[str] | Callable[[Any], Iterable[str]]

_VOIDED: Final = 2  # leases that a caller sees vanish without a value, until it loads without one
_PATIENCE: Final = 3600.0  # seconds; a lease that is renewed for longer is waited for anew


class Load(Struct, frozen=True):
    """What is wanted: the value of a key, how to load it, and for how long it is good. ``tags`` are full names of versions."""

    name: str
    key: Key
    loader: Callable[[], Any]
    freshness: Freshness
    tags: tuple[str, ...] | Callable[[Any], tuple[str, ...]]
    operation: str = "get_or_set"


class Loading:
    """Loads for one cache. *fill_failed* hears of a value that could not be stored, and may raise."""

    def __init__(
        self,
        port: Port,
        flights: Flights,
        leases: Leases,
        look: Look,
        book: VersionBook,
        clock: ServerClock,
        coding: Coding[Any],
        kind: object,
        namespace: str,
        spaces: tuple[str, ...],
        clock_name: str,
        tally: Tally,
        fill_failed: Callable[[Key, Unavailable | ServerError], None],
        report: Callable[[type[CacheEvent], BaseException, str, object], None],
    ) -> None:
        self._port = port
        self._flights = flights
        self._leases = leases
        self._look = look
        self._book = book
        self._clock = clock
        self._coding = coding
        self._kind = kind
        self._namespace = namespace
        self._spaces = spaces
        self._clock_name = clock_name
        self._tally = tally
        self._fill_failed = fill_failed
        self._report = report
        self._refreshing: set[str] = set()

    async def share(self, load: Load, seen: Seen | None, patience: float | None = None) -> bytes | None:
        """Return the encoded value, from a load that is under way or from a new one; None if the caller must look again.

        The load is not the leader's own: it goes on while anybody waits, whoever is cancelled; and also when this caller
        has no more *patience*, in seconds. *seen* is what the caller found, None if the server could not be asked.

        Raises:
            TimeoutError: the patience ended.
            RecursiveLoad: the loader asks for the key that it loads.
            LoaderCancelled: the load was cancelled from inside, or because the bay closed.
            Exception: whatever the loader, the codec or *fill_failed* raised.
        """
        token = b"" if seen is None or seen.token == NOBODY else seen.token
        if token:
            self._refuse_recursion(load, lambda flight: flight.token == token)
            current = self._flights.under_way(load.name, self._kind)
            if current is not None and current.token == token and current.versions and not await self._current(current.versions):
                token = b""  # a tag has changed since that load began
        flight, leads, late = self._flights.board(load.name, self._kind, token)
        patient = False
        try:
            if leads:
                self._refuse_recursion(load, lambda other: other is flight.after)
                work = self._fly(flight, load, seen)
                if patience is None:
                    flight.cancel = self._port.launch(work)
                elif not self._port.background(work):
                    flight.cancel = self._port.launch(self._fly(flight, load, seen))
            else:
                self._refuse_recursion(load, lambda other: other is flight)
            try:
                found = await flight.promise.wait(patience)
            except TimeoutError:
                patient = not flight.ended
                raise
        except RecursiveLoad as error:
            if leads and not flight.ended:
                self._flights.land(flight)
                flight.promise.fail(error)
            raise
        finally:
            if not patient:  # else the load keeps this caller's place, for it goes on
                self._flights.leave(flight)
        packed: bytes | None = found.packed
        return None if late and found.read else packed

    def refresh(self, load: Load, seen: Seen) -> None:
        """Load in the background, unless that is done already, here or elsewhere; *seen* is the value that stays meanwhile."""
        entry = seen.entry
        if load.name in self._refreshing or entry is None or entry.lease_until > self._clock.now():
            return
        self._refreshing.add(load.name)
        if not self._port.background(self._refresh(replace(load, operation=REFRESH), seen)):
            self._refreshing.discard(load.name)

    async def store(self, load: Load, value: Any, packed: bytes, versions: Versions, load_ms: float) -> tuple[bytes, int | None]:
        """Return the bytes of an entry, and for how many milliseconds it is kept."""
        fresh, kept = lifetime(load.freshness.ttl_for(value, self._namespace), load.freshness, random.random())  # noqa: S311 - spreads load
        if self._look.bare and not versions and not load.freshness.needs_metadata:
            return packed, kept
        until = await self._clock.ask() + fresh
        return pack_entry(packed, fresh_until=until, load_ms=load_ms, fingerprint=self._coding.fingerprint, versions=versions), kept

    async def recorded(self, load: Load, value: Any, versions: Versions) -> Versions | None:
        """Return the versions to store with *value*; None if it must not be stored. *versions* were read before it was loaded."""
        return await self._tagged(load.tags(value), versions, load) if callable(load.tags) else versions

    async def alone(self, load: Load) -> bytes:
        """Load without a lease, and store nothing."""
        return self._coding.encode(await self._call(load), load.name)

    def kept(self, freshness: Freshness) -> float | None:
        """Return for how many milliseconds an entry is kept at most; None: for ever."""
        longest = max(freshness.ttl_for(0, self._namespace), freshness.ttl_for(None, self._namespace))
        return None if longest == float("inf") else longest + freshness.grace

    # a flight

    async def _fly(self, flight: Flight, load: Load, seen: Seen | None) -> None:
        context = aloft.set(aloft.get() | {flight})
        try:
            found = await self._find(flight, load, seen)
        except BaseException as error:
            self._flights.land(flight)
            if not isinstance(error, Exception):
                flight.promise.fail(LoaderCancelled(f"the load of key {load.key!r} was ended by {type(error).__name__}"))
                raise
            flight.promise.fail(error)
        else:
            self._flights.land(flight)
            flight.promise.keep(found)
        finally:
            aloft.reset(context)

    async def _find(self, flight: Flight, load: Load, seen: Seen | None) -> Found:
        token: bytes | None = None
        if seen is not None:
            try:
                outcome = await self._seek(flight, load, seen)
            except (Unavailable, ServerError) as error:
                self._fill_failed(load.key, error)
            else:
                if isinstance(outcome, Found):
                    return outcome
                token = outcome
        if token is not None:
            return await self._load_leased(flight, load, token)
        if flight.after is not None:
            await _ended(flight.after)
        self._flights.show(flight, b"")
        value = await self._call(load)
        return Found(self._coding.encode(value, load.name), read=False)

    async def _seek(self, flight: Flight, load: Load, seen: Seen) -> Found | bytes | None:
        """Take the lease and return its token, or wait for whoever has it and return what that one stored; None: neither."""
        voided = 0
        while voided < _VOIDED:
            token = seen.token
            wait = await self._wait_for(seen)
            if wait > 0:
                self._flights.show(flight, token)
                data = await self._port.await_change(load.name, partial(_shows, token), wait)
            else:
                if not flight.open:
                    self._flights.reopen(flight)
                self._flights.ask(flight)
                mine, data = await self._leases.acquire(load.name, seen)
                if mine is not None:
                    return mine
                if data is None:
                    data = await self._port.execute("get", load.name)
            seen = await self._look.judge(data, None, load.name, load.key, "get_or_set")
            if seen.state is State.LIVE and await self._good(seen, load):
                return Found(seen.payload, read=True)
            if seen.entry is not None and seen.state is State.LIVE and paused(seen.entry, load.freshness, await self._clock.ask()):
                return Found(None, read=True)  # the load that was waited for has failed
            voided += wait > 0 and seen.token != token
        return None

    async def _wait_for(self, seen: Seen) -> float:
        """Return for how many seconds somebody else's lease is to be waited for."""
        if seen.state is State.LEASED:
            return _PATIENCE
        if seen.state is State.LIVE and seen.entry is not None and seen.entry.token != NOBODY:
            return max(0.0, (seen.entry.lease_until - await self._clock.ask()) / 1000)
        return 0.0

    async def _good(self, seen: Seen, load: Load) -> bool:
        return seen.entry is None or judge(seen.entry, load.freshness, await self._clock.ask(), 1.0) in (Verdict.FRESH, Verdict.REFRESH)

    async def _load_leased(self, flight: Flight, load: Load, token: bytes) -> Found:
        stop = self._leases.keep(load.name, token)
        try:
            names = (*self._spaces, self._clock_name) if callable(load.tags) else (*self._spaces, *load.tags)
            try:
                versions: Versions | None = await self._book.record(names, self.kept(load.freshness)) if names else ()
            except (Unavailable, ServerError) as error:  # then nothing can be stored
                self._fill_failed(load.key, error)
                versions = None
            flight.versions = versions
            self._flights.show(flight, token)
            began = time.monotonic()
            value = await self._call(load)
            load_ms = (time.monotonic() - began) * 1000
            packed = self._coding.encode(value, load.name)
        except BaseException as error:
            stop()  # and let nobody try again at once, if it failed
            self._leases.let_go({load.name: token}, 0.0 if isinstance(error, Unstored) else self._leases.lasting / 5)
            raise
        filled = False
        try:
            if versions is not None:
                versions = await self.recorded(load, value, versions)
                if versions is not None:
                    data, kept = await self.store(load, value, packed, versions, load_ms)
                    filled = await self._leases.fill(load.name, token, data, kept)
                if not filled:
                    self._tally.refused(load.operation, load.key)
        except (Unavailable, ServerError) as error:
            self._fill_failed(load.key, error)
        finally:
            stop()
            if not filled:
                self._leases.let_go({load.name: token})
        return Found(packed, read=False)

    async def _tagged(self, tags: tuple[str, ...], before: Versions, load: Load) -> Versions | None:
        """Return the versions for tags that only the value tells; None if any tag changed while it was loaded."""
        versions = await self._book.record((*self._spaces, *tags), self.kept(load.freshness))
        now = dict(await self._book.read([name for name, _ in before]))
        return versions if all(now[name] == version for name, version in before) else None

    async def _call(self, load: Load) -> Any:
        tally, keys, began = self._tally, (load.key,), time.monotonic()
        try:
            value = await self._port.call(load.loader, load.freshness.hard_timeout)
        except Unstored:
            tally.loaded(load.operation, keys, time.monotonic() - began)
            raise
        except BaseException as error:
            tally.load_failed(load.operation, keys, time.monotonic() - began, error)
            raise
        tally.loaded(load.operation, keys, time.monotonic() - began)
        return value

    async def _refresh(self, load: Load, seen: Seen) -> None:
        try:
            token, _ = await self._leases.acquire(load.name, seen)
            if token is not None:
                flight = self._flights.lead(load.name, self._kind, token)
                await self._fly_leased(flight, load, token)
        except Unstored:  # loaded, and nobody waits for it
            return
        except Exception as error:  # noqa: BLE001 - whatever the loader raises: it is reported, and the next read tries again
            self._report(RefreshFailed, error, REFRESH, load.key)
        finally:
            self._refreshing.discard(load.name)

    async def _fly_leased(self, flight: Flight, load: Load, token: bytes) -> None:
        context = aloft.set(aloft.get() | {flight})
        try:
            found = await self._load_leased(flight, load, token)
        except BaseException as error:
            self._flights.land(flight)
            flight.promise.fail(error if isinstance(error, Exception) else LoaderCancelled(f"the refresh of key {load.key!r} was ended"))
            raise
        else:
            self._flights.land(flight)
            flight.promise.keep(found)
        finally:
            aloft.reset(context)

    async def _current(self, versions: Versions) -> bool:
        try:
            return await self._book.current(versions, None)
        except (Unavailable, ServerError):
            return False

    def _refuse_recursion(self, load: Load, is_same: Callable[[Flight], bool]) -> None:
        if any(is_same(flight) for flight in aloft.get()):
            raise RecursiveLoad(f"the loader of key {load.key!r} asks the cache for that same key, and would wait for itself")


def _shows(token: bytes, data: bytes | None) -> bool:
    return data is not None and data[1:9] == token


async def _ended(flight: Flight) -> None:
    """Wait for the end of *flight*, however it ends."""
    try:
        await flight.promise.wait()
    except Exception:  # noqa: BLE001 - it is for those aboard
        return
