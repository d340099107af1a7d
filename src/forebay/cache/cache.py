"""The two colours of a cache, the same names and parameters in both: one awaits the core, the other completes it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from ..colours import documented_like
from ..durations import Duration
from ..keys import Key
from ..port.port import complete
from .core import CacheCore
from .decorating import AsyncDecorating, Decorating
from .freshness import FreshnessOptions
from .loading import Tags
from .tally import CacheStats

if TYPE_CHECKING:
    from .warmup import WarmReport

__all__ = ["AsyncCache", "Cache"]

T = TypeVar("T")
D = TypeVar("D")


class AsyncCache(AsyncDecorating[T], CacheCore[T]):
    """A cache for asyncio. Get one from `AsyncForebay.cache`; it belongs to the bay's event loop."""

    _awaits = True


@documented_like(CacheCore)
class Cache(Decorating[T], Generic[T]):
    """A cache for threads. Get one from `Forebay.cache`; all threads may share it."""

    def __init__(self, core: CacheCore[T]) -> None:
        self._core = core

    @property
    def namespace(self) -> str:
        return self._core.namespace

    def stats(self) -> CacheStats:
        return self._core.stats()

    def typed(self, type: Any) -> Self:
        return self.__class__(self._core.typed(type))

    @overload
    def get(self, key: Key) -> T | None: ...
    @overload
    def get(self, key: Key, default: D) -> T | D: ...
    def get(self, key: Key, default: Any = None) -> Any:
        return complete(self._core.get(key, default))

    def fetch(self, key: Key) -> T:
        return complete(self._core.fetch(key))

    def get_many(self, keys: Iterable[Key]) -> dict[Key, T]:
        return complete(self._core.get_many(keys))

    def exists(self, key: Key) -> bool:
        return complete(self._core.exists(key))

    def ttl(self, key: Key) -> float | None:
        return complete(self._core.ttl(key))

    def set(self, key: Key, value: T, *, tags: Tags = (), **options: Unpack[FreshnessOptions]) -> None:
        complete(self._core.set(key, value, tags=tags, **options))

    def set_many(self, mapping: Mapping[Key, T], *, tags: Tags = (), **options: Unpack[FreshnessOptions]) -> None:
        complete(self._core.set_many(mapping, tags=tags, **options))

    def add(self, key: Key, value: T, *, tags: Tags = (), **options: Unpack[FreshnessOptions]) -> bool:
        return complete(self._core.add(key, value, tags=tags, **options))

    def expire(self, key: Key, ttl: Duration | None) -> bool:
        return complete(self._core.expire(key, ttl))

    def delete(self, *keys: Key) -> int:
        return complete(self._core.delete(*keys))

    def mark_stale(self, key: Key) -> bool:
        return complete(self._core.mark_stale(key))

    def invalidate_tags(self, *tags: str) -> None:
        complete(self._core.invalidate_tags(*tags))

    def delete_matching(self, pattern: str) -> int:
        return complete(self._core.delete_matching(pattern))

    def clear(self) -> int:
        return complete(self._core.clear())

    def on_invalidated(self, callback: Callable[[Key | None], None]) -> Callable[[], None]:
        return self._core.on_invalidated(callback)

    def get_or_set(self, key: Key, loader: Callable[[], T], *, tags: Tags = (), **options: Unpack[FreshnessOptions]) -> T:
        return complete(self._core.get_or_set(key, loader, tags=tags, **options))

    def get_or_set_many(
        self,
        keys: Iterable[Key],
        loader: Callable[[list[Key]], Mapping[Key, T]],
        *,
        tags: Tags = (),
        **options: Unpack[FreshnessOptions],
    ) -> dict[Key, T]:
        return complete(self._core.get_or_set_many(keys, loader, tags=tags, **options))

    def warm(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        loader: Callable[[Any], T] | None = None,
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
        return complete(
            self._core.warm(
                source,
                loader,
                concurrency=concurrency,
                rate=rate,
                checkpoint=checkpoint,
                on_progress=on_progress,
                overwrite=overwrite,
                batch=batch,
                tags=tags,
                **options,
            )
        )

    def __repr__(self) -> str:
        return repr(self._core).replace("CacheCore(", "Cache(", 1)
