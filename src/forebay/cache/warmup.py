"""Filling a cache ahead of its readers: a source streams through, and one key that fails never stops the rest.

What a loader returns is stored by the cache's own `get_or_set`, so that a value read before an invalidation is not stored
after it. Pairs were read by somebody else, at a time that nobody here knows: they are stored where nothing is, as they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct

from ..errors import Closed, EncodeError, InvalidDuration, InvalidKey, MissingTTL, SettingsError, SourceChanged, Unavailable
from ..keys import Key, Namespace
from ..port.port import Port
from .attempt import Attempt
from .bulk import CacheBulk
from .checkpoint import Checkpoint, Fingerprint, Mark
from .hands import Hands, Job
from .pace import Pace
from .rows import Rows, Source, pair_of

__all__ = ["WarmFailure", "WarmReport", "WarmUp"]

_MOST_FAILURES: Final = 20
_TICK: Final = 0.25  # seconds between looks at loads under way
_PAUSES: Final = (0.1, 0.4, 1.5)  # seconds; a server that fails over is back by then, one that is away is not waited for
_EVERY_KEY: Final = (MissingTTL, InvalidDuration, SettingsError, Closed)
"""Errors that every other key would meet as well."""


class WarmFailure(Struct, frozen=True):
    """A key that could not be warmed, and why."""

    key: object
    error: Exception


class WarmReport(Struct, frozen=True):
    """What a warming did, so far or (``done``) to its end.

    Every item of the source counts once: ``loaded`` (a loader returned, or a pair was stored), ``skipped`` (there was an
    entry, or the key came twice), ``failed``, or ``resumed`` (an earlier run with the same checkpoint was through with it).
    ``failures`` are the first 20 of those that failed. ``seconds`` is how long it took, ``checkpoint`` the name to resume it by.
    """

    loaded: int
    skipped: int
    failed: int
    resumed: int
    seconds: float
    failures: tuple[WarmFailure, ...]
    done: bool
    checkpoint: str | None

    @property
    def handled(self) -> int:
        """How many items of the source are through, from its beginning."""
        return self.loaded + self.skipped + self.failed + self.resumed


class _Chunk(Struct):
    """Some items of the source, in a row: what is still to be done for them, and the digest of all keys up to their end."""

    size: int
    wanted: dict[Key, Any]
    digest: str
    jobs: set[Job]


class _Outcome(Struct, frozen=True):
    """What one job did."""

    loaded: int = 0
    skipped: int = 0
    failures: tuple[WarmFailure, ...] = ()


class WarmUp:
    """One run, over a *cache* that raises `Unavailable` where others fall back.

    *options* are those of the cache's writes, *lifetime* how many seconds an entry lives; the rest stands at `Cache.warm`.
    """

    def __init__(
        self,
        cache: CacheBulk[Any],
        port: Port,
        space: Namespace,
        source: Source,
        loader: Callable[[Any], Any] | None,
        *,
        hands: Callable[[int], Hands],
        concurrency: int,
        rate: float | None,
        checkpoint: str | None,
        lifetime: float,
        on_progress: Callable[[WarmReport], Any] | None,
        overwrite: bool,
        batch: int,
        options: Any,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise `ValueError`, `TypeError`, `UnusableSource` or `InvalidKey` if an argument cannot be used."""
        for name, number in (("concurrency", concurrency), ("batch", batch)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{name}={number!r} is not a whole number of at least 1")
        if loader is not None and not callable(loader):
            raise TypeError(f"loader is a function of the key, not {type(loader).__name__}")
        self._pace = Pace(rate, clock)
        self._checkpoint = None if checkpoint is None else Checkpoint(port, space, checkpoint, lifetime)
        self._hands = hands(concurrency)
        self._rows = Rows(source, awaits=self._hands.awaits, pairs=loader is None, check=self._hands.check)
        self._cache = cache
        self._port = port
        self._space = space
        self._loader = loader
        self._on_progress = on_progress
        self._overwrite = overwrite
        self._options = options
        self._clock = clock
        self._fingerprint = Fingerprint()
        # Two chunks at most are under way, the older one's last loads beside the newer one's first: together one batch.
        self._size = max(1, batch // 2)
        if rate is not None:  # so that slow progress is seen and kept too; and pairs, which are written together, come evenly
            self._size = min(self._size, max(concurrency, math.ceil(rate)) if loader is not None else math.ceil(rate / 10))
        self._position = 0
        self._done = 0
        self._resumed = 0
        self._loaded = 0
        self._skipped = 0
        self._failed = 0
        self._failures: list[WarmFailure] = []
        self._began = clock()

    async def run(self) -> WarmReport:
        """Warm, and return the report; see `Cache.warm` for what is raised."""
        try:
            await self._resume()
            await self._show()
            await self._go_through()
        except Unavailable as error:
            error.add_note(f"warming {self._space.label!r} stopped after {self._done} items; {self._remedy()}")
            raise
        finally:
            try:
                await self._hands.close()
            finally:
                await self._rows.close()
        if self._checkpoint is not None:
            await self._patiently(self._checkpoint.remove)
        report = self._report(done=True)
        await self._show(report)
        return report

    async def _go_through(self) -> None:
        before: _Chunk | None = None
        while True:
            try:
                items = await self._rows.take(self._size)
            except Exception:
                if before is not None:  # what came before the source failed is no worse for it
                    await self._finish(before)
                raise
            if not items:
                break
            chunk = self._chunk_of(items)
            if self._loader is None:
                if before is not None:  # pairs are stored in their order: of two with one key the later one counts
                    await self._finish(before)
                chunk.jobs = {self._hands.start(partial(self._store, chunk.wanted))}
            else:
                found = await self._found(chunk.wanted)
                self._skipped += len(found)
                chunk.jobs = {self._hands.start(partial(self._load, self._loader, key)) for key in chunk.wanted if key not in found}
                if before is not None:
                    await self._finish(before)
            before = chunk
        if before is not None:
            await self._finish(before)

    async def _resume(self) -> None:
        mark = None if self._checkpoint is None else await self._patiently(self._checkpoint.load)
        if mark is None or self._checkpoint is None:
            return
        while self._position < mark.done:
            items = await self._rows.take(min(self._size, mark.done - self._position))
            if not items:
                break
            for item in items:
                self._key_of(item)
            await self._hands.pause(0)  # a loop has others to serve
        if self._position < mark.done or self._fingerprint.digest() != mark.digest:
            await self._patiently(self._checkpoint.remove)
            raise SourceChanged(
                f"the first {mark.done} items of the source are not those that checkpoint {self._checkpoint.name!r} stands for, so it was "
                "dropped: call again to start from the beginning, with a source that keeps its order"
            )
        self._done = self._resumed = mark.done

    def _key_of(self, item: Any) -> tuple[str | InvalidKey, Any, Any]:
        """Take an item into the fingerprint; return its name, or what is wrong with its key, then the key, and the value (of pairs)."""
        key, value = (item, None) if self._loader is not None else pair_of(item, self._position)
        name: str | InvalidKey
        try:
            name = self._space.name(key)
        except InvalidKey as error:
            name = error
        self._fingerprint.add(name if isinstance(name, str) else f"?{type(key).__name__}")
        self._position += 1
        return name, key, value

    def _chunk_of(self, items: list[Any]) -> _Chunk:
        named: dict[str, tuple[Key, Any]] = {}  # 42 and "42" are one entry
        for item in items:
            name, key, value = self._key_of(item)
            if isinstance(name, InvalidKey):
                self._count(_Outcome(failures=(WarmFailure(key, name),)))
                continue
            self._skipped += name in named
            named[name] = named.get(name, (key, None))[0], value
        return _Chunk(len(items), dict(named.values()), self._fingerprint.digest(), set())

    async def _finish(self, chunk: _Chunk) -> None:
        """Wait for the end of *chunk*, then write the mark behind it."""
        while chunk.jobs:
            done, chunk.jobs = await self._hands.wait(chunk.jobs, _TICK)
            for job in done:
                self._count(job.result())
            if chunk.jobs:
                await self._show()
        self._done += chunk.size
        if self._checkpoint is not None:
            await self._patiently(partial(self._checkpoint.save, Mark(self._done, chunk.digest)))
        await self._show()

    # jobs, on a task or thread of their own

    async def _load(self, loader: Callable[[Any], Any], key: Key) -> _Outcome:
        wait = self._pace.turn()
        if wait > 0 and not await self._hands.pause(wait):
            return _Outcome()
        attempt = Attempt(loader, key, awaits=self._hands.awaits)
        try:
            await self._patiently(partial(self._load_once, key, attempt), attempt)
        except Exception as error:
            if error is attempt.unusable or (error is not attempt.error and isinstance(error, (Unavailable, *_EVERY_KEY))):
                raise
            return _Outcome(failures=(WarmFailure(key, error),))
        if attempt.error is not None and not attempt.loaded:  # the cache went on with a stale value; the key was not warmed all the same
            return _Outcome(failures=(WarmFailure(key, attempt.error),))
        return _Outcome(loaded=attempt.loaded, skipped=not attempt.loaded)

    async def _load_once(self, key: Key, attempt: Attempt) -> None:
        if self._overwrite:  # a load that began before somebody's invalidation must not be stored: only an absent entry is leased
            await self._cache.delete(key)
        # Not `get_or_set`: that answers with a stale value and refreshes in the background, where nobody counts or keeps the pace.
        await self._cache.get_or_set_many([key], attempt, **self._options)

    async def _store(self, pairs: dict[Key, Any]) -> _Outcome:
        wait = self._pace.turn(0)  # before the look, so that little time lies between the look and the write
        if wait > 0 and not await self._hands.pause(wait):
            return _Outcome()
        found = await self._found(pairs)
        missing = {key: value for key, value in pairs.items() if key not in found}
        self._pace.turn(len(missing))
        failures = await self._set(missing)
        return _Outcome(len(missing) - len(failures), len(found), tuple(failures))

    async def _set(self, pairs: dict[Key, Any]) -> list[WarmFailure]:
        """Store *pairs*; where one cannot be stored, none was, and the halves are tried."""
        if not pairs:
            return []
        try:
            await self._patiently(partial(self._cache.set_many, pairs, **self._options))
        except EncodeError as error:
            if len(pairs) == 1:
                return [WarmFailure(next(iter(pairs)), error)]
        else:
            return []
        items, middle = list(pairs.items()), len(pairs) // 2
        return [*await self._set(dict(items[:middle])), *await self._set(dict(items[middle:]))]

    async def _found(self, wanted: Mapping[Key, Any]) -> Mapping[Key, Any]:
        return {} if self._overwrite or not wanted else await self._patiently(partial(self._cache.get_many, wanted))

    async def _patiently(self, ask: Callable[[], Awaitable[Any]], attempt: Attempt | None = None) -> Any:
        for pause in _PAUSES:
            try:
                return await ask()
            except Unavailable as error:
                if (attempt is not None and error is attempt.error) or not await self._hands.pause(pause):
                    raise
        return await ask()

    # what the caller hears

    def _count(self, outcome: _Outcome) -> None:
        self._loaded += outcome.loaded
        self._skipped += outcome.skipped
        self._failed += len(outcome.failures)
        self._failures += outcome.failures[: _MOST_FAILURES - len(self._failures)]

    def _report(self, *, done: bool) -> WarmReport:
        counts = (self._loaded, self._skipped, self._failed, self._resumed)
        name = None if self._checkpoint is None else self._checkpoint.name
        return WarmReport(*counts, self._clock() - self._began, tuple(self._failures), done, name)

    async def _show(self, report: WarmReport | None = None) -> None:
        if self._on_progress is not None:
            await self._port.call(partial(self._on_progress, report or self._report(done=False)))

    def _remedy(self) -> str:
        return "call again, and what is stored is skipped" if self._checkpoint is None else "call again with the same checkpoint to go on"
