"""What a cache makes of functions, in both colours: `cached` results of calls, and `batched` reads of single keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

from ..colours import documented_like
from ..keys import Key
from .batched import MAX_BATCH, AsyncBatched, Batched
from .cached import AsyncCached, Cached
from .freshness import FreshnessOptions
from .loading import Tags
from .recipe import CachedOptions

__all__ = ["AsyncDecorating", "Decorating"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
K = TypeVar("K", bound=Key)


class AsyncDecorator(Protocol):
    """`AsyncCache.cached` with its options, before it is given a function."""

    @overload
    def __call__(self, function: staticmethod[P, Awaitable[R]], /) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: classmethod[Any, P, Awaitable[R]], /) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> AsyncCached[P, R]: ...


class Decorator(Protocol):
    """`Cache.cached` with its options, before it is given a function."""

    @overload
    def __call__(self, function: staticmethod[P, R], /) -> Cached[P, R]: ...
    @overload
    def __call__(self, function: classmethod[Any, P, R], /) -> Cached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...


class AsyncDecorating(Generic[T]):
    """`cached` and `batched` of an `AsyncCache`."""

    @overload
    def cached(self, function: Callable[P, Awaitable[R]], /, **options: Unpack[CachedOptions]) -> AsyncCached[P, R]: ...
    @overload
    def cached(self, function: None = None, /, **options: Unpack[CachedOptions]) -> AsyncDecorator: ...
    def cached(self, function: Any = None, /, **options: Unpack[CachedOptions]) -> Any:
        """Decorate a function so that its results come from this cache: ``@cache.cached`` or ``@cache.cached(ttl="5m")``.

        A function, a method, or a class or static method; asynchronous on an `AsyncCache`, plain on a `Cache`. It keeps its
        signature, and gets ``invalidate``, ``refresh`` and ``key_for``, which take its arguments, and ``uncached``, itself.
        The key is its name and all arguments: text, numbers, None, bytes, UUIDs, dates, Decimals, enums, classes, and
        tuples, frozensets, frozen dataclasses and frozen Structs of these, or what has a ``__cache_key__``.

        Args:
            options: see `CachedOptions`; ``ttl`` and the other options of `get_or_set` are among them.

        Raises:
            InvalidKey, InvalidDuration, SettingsError: an option cannot be used.
            EncodeError: what the function returns cannot be stored.
            TypeError: it is no function of this colour, or there is no such option.
        """
        if function is not None:
            return AsyncCached(_any(self), function, dict(options))
        return lambda function: AsyncCached(_any(self), function, dict(options))

    def batched(
        self,
        loader: Callable[[list[K]], Mapping[K, T] | Awaitable[Mapping[K, T]]],
        *,
        max_batch: int = MAX_BATCH,
        tags: Tags = (),
        **options: Unpack[FreshnessOptions],
    ) -> AsyncBatched[K, T]:
        """Return a function of one key that reads together with whoever else asks at the same time, by `get_or_set_many`.

        Args:
            loader: gets the list of missing keys and returns a mapping; what it leaves out is None.
            max_batch: how many keys are read and loaded at once.
            tags: for all that is loaded; or a function of each value.
            options: those of `get_or_set_many`.

        Raises:
            SettingsError: *max_batch* is no number of keys.
            TypeError: *loader* cannot be called, or not in this colour.
        """
        return AsyncBatched(self, loader, max_batch, {"tags": tags, **options})


@documented_like(AsyncDecorating)
class Decorating(Generic[T]):
    """`cached` and `batched` of a `Cache`."""

    @overload
    def cached(self, function: Callable[P, R], /, **options: Unpack[CachedOptions]) -> Cached[P, R]: ...
    @overload
    def cached(self, function: None = None, /, **options: Unpack[CachedOptions]) -> Decorator: ...
    def cached(self, function: Any = None, /, **options: Unpack[CachedOptions]) -> Any:
        if function is not None:
            return Cached(_any(self), function, dict(options))
        return lambda function: Cached(_any(self), function, dict(options))

    def batched(
        self,
        loader: Callable[[list[K]], Mapping[K, T]],
        *,
        max_batch: int = MAX_BATCH,
        tags: Tags = (),
        **options: Unpack[FreshnessOptions],
    ) -> Batched[K, T]:
        return Batched(self, loader, max_batch, {"tags": tags, **options})


def _any(cache: Any) -> Any:
    """The classes that hold these methods have what a recipe asks for; these alone do not."""
    return cache
