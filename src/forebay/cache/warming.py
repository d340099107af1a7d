"""`warm`: a cache is filled before its readers come. What it means stands here; the run itself in `warmup`, imported when there is one."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, Unpack

from msgspec import UNSET
from msgspec.structs import replace

from .bulk import CacheBulk
from .freshness import FreshnessOptions
from .loading import Tags
from .patient import PatientPort
from .tally import Tally

if TYPE_CHECKING:
    from .hands import Hands
    from .warmup import WarmReport

__all__ = ["CacheWarming"]

T = TypeVar("T")


class CacheWarming(CacheBulk[T]):
    """`warm`."""

    _awaits: ClassVar[bool] = False

    async def warm(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        loader: Callable[[Any], T | Awaitable[T]] | None = None,
        *,
        concurrency: int = 16,
        rate: float | None = None,
        checkpoint: str | None = None,
        on_progress: Callable[[WarmReport], Any] | None = None,
        overwrite: bool = False,
        batch: int = 500,
        tags: Tags = (),
        **options: Unpack[FreshnessOptions],
    ) -> WarmReport:
        """Store what *source* gives, which streams through and is never held as a whole, and return what was done.

        With a *loader* the source gives keys; for each that has no fresh entry, ``loader(key)`` is called under a lease, as in
        `get_or_set`: a value that is invalidated while it is loaded is not stored. Without one it gives ``(key, value)``
        pairs, or is a mapping; they are stored where there is no fresh entry. A pair that was read before a change in the
        database and arrives after its invalidation stays until its ttl ends: where that matters, give keys and a loader.

        A key that fails (its loader raised, its value cannot be stored) is counted and reported, and the rest goes on. A
        server that is away for a moment is waited for, some two seconds. Of what is counted in `stats`, hits and misses are
        not: nobody asked for these keys yet.

        Args:
            source: an iterable, also an async one with asyncio. A sync one is iterated by the caller: with asyncio, on the loop.
            loader: called with a key; with asyncio it may return an awaitable, with threads it runs on one of *concurrency* threads.
            concurrency: how many loads may be under way at once.
            rate: how many loads (or pairs stored) may begin in a second, evenly spread; None: as fast as it goes.
            checkpoint: a name under which the way made so far is kept in Redis, for as long as an entry lives (a minute at
                least, a week at most). The next call with that name passes over as many items of the same source, also after
                the process was killed; at most *batch* items are looked at again. It is removed at the end. Without it what
                is stored is skipped too, but asked for.
            on_progress: called with a report at the start, now and then, and at the end; the caller's own task or thread calls it.
            overwrite: load and store what has an entry too. With a loader each entry is deleted just before it is loaded, so
                that readers wait for the new value, and find none if the loader fails.
            batch: how many items may be under way; half of them are asked for in one round trip.
            tags: for all that is stored, or a function of each value.
            options: those of `bay.cache`, for what is stored.

        Raises:
            SourceChanged: the source does not begin as it did at the checkpoint, which was dropped: the same call starts anew.
            Unavailable: the server is away. The checkpoint stands where it was written last.
            InvalidKey, InvalidDuration, SettingsError, MissingTTL, TypeError, ValueError: an argument cannot be used.
            Exception: whatever the source or *on_progress* raised.
        """
        from .hands import Tasks, Threads  # on use, with threads and tasks: few processes warm a cache
        from .warmup import WarmUp

        hands: Callable[[int], Hands] = Tasks if self._awaits else Threads
        lifetime = self._options(options).ttl_for(UNSET, self.namespace) / 1000
        tally = self._tally.aside()
        try:
            return await WarmUp(
                self._strict(tally),
                self._port,
                self._space,
                source,
                loader,
                hands=hands,
                concurrency=concurrency,
                rate=rate,
                checkpoint=checkpoint,
                lifetime=lifetime,
                on_progress=on_progress,
                overwrite=overwrite,
                batch=batch,
                options={"tags": tags, **options},
            ).run()
        finally:
            self._tally.take(tally)

    def _strict(self, tally: Tally) -> Self:
        """Return this cache as one that takes its time, raises where others fall back, and holds nothing near which nobody asked for."""
        return self.__class__(
            replace(self._shared, port=PatientPort(self._port)),
            self._space,
            self._coding_of,
            type=self._type,
            freshness=self._freshness,
            on_outage="raise",
            lease=self._leases.lasting,
            near=None,
            versioned=self._versioned,
            tally=tally,
            assurance=self._assurance,
        )
