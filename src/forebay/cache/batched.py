"""Reads of single keys that become one read of many: whoever asks at the same time asks together.

On asyncio those of one turn of the event loop go together. On threads a lone caller waits for nobody, and whoever comes while a
batch is under way goes along with the next one. Nobody hears of the others: not of their bad keys, not of their cancellation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ..errors import LoaderCancelled, SettingsError
from ..forks import renew_after_fork
from ..keys import Key, Namespace
from .flights import aloft
from .recipe import is_async
from .unstored import copied

if TYPE_CHECKING:
    import asyncio

__all__ = ["AsyncBatched", "Batched"]

K = TypeVar("K", bound=Key)
T = TypeVar("T")

MAX_BATCH: Final = 1000
_PATIENCE: Final = 0.05  # seconds that the next batch waits for one that is under way: a slow load must not hold up those who would hit


class _Batching(Generic[K, T]):
    """What both colours share."""

    def __init__(self, cache: Any, loader: Callable[[list[K]], Any], max_batch: int, options: Mapping[str, Any]) -> None:
        if not callable(loader):
            raise TypeError(f"batched takes a function of a list of keys that returns a mapping, not {type(loader).__name__}")
        if isinstance(max_batch, bool) or not isinstance(max_batch, int) or max_batch < 1:
            raise SettingsError(f"max_batch={max_batch!r} is not a number of keys: give one from 1 upwards")
        self._cache = cache
        self._loader = loader
        self._max_batch = max_batch
        self._options = dict(options)
        self._check = Namespace("", cache.namespace).name

    def _chunks(self, keys: Iterable[K]) -> Iterator[list[K]]:
        wanted = iter(dict.fromkeys(keys))
        while chunk := list(islice(wanted, self._max_batch)):
            yield chunk

    def __repr__(self) -> str:
        return f"<batched {getattr(self._loader, '__qualname__', self._loader)} of cache {self._cache.namespace!r}>"


class _Gathering:
    """Keys that go together, and who waits for each; every waiter has a future of its own."""

    __slots__ = ("context", "departure", "task", "waiters", "waiting")

    def __init__(self) -> None:
        self.context = copy_context()  # of the first caller, whoever fills the batch
        self.waiters: dict[Key, list[asyncio.Future[Any]]] = {}
        self.waiting = 0
        self.departure: asyncio.Handle | None = None
        self.task: asyncio.Task[None] | None = None

    def land(self, values: Mapping[Key, Any]) -> None:
        for key, waiters in self.waiters.items():
            shared = False
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(copied(values[key]) if shared else values[key])  # callers never share what can change
                    shared = True

    def fail(self, error: Exception) -> None:
        for waiters in self.waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
                    waiter.exception()  # seen: one who is cancelled at this very moment will not look


class AsyncBatched(_Batching[K, T]):
    """Reads single keys of an `AsyncCache` in batches. Made by `AsyncCache.batched`."""

    def __init__(self, cache: Any, loader: Callable[[list[K]], Any], max_batch: int, options: Mapping[str, Any]) -> None:
        super().__init__(cache, loader, max_batch, options)
        # By loop; and by the loads that the caller is part of: a load that waits for a batch must not find itself in it.
        self._gatherings: dict[tuple[Any, Any], _Gathering] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, key: K) -> T:
        """Return the value of *key*, read and if need be loaded together with all that are asked for in this turn of the loop.

        The loader runs in the context (`contextvars`) of the caller who was first. What it leaves out is None.

        Raises:
            InvalidKey: the key cannot be used.
            LoaderCancelled: the loader was cancelled from inside.
            Exception: whatever `get_or_set_many` raised, in every caller of the batch.
        """
        self._check(key)
        from asyncio import get_running_loop  # on use: threads need no asyncio

        loop = get_running_loop()
        group = (loop, aloft.get())
        gathering = self._gatherings.get(group)
        if gathering is None:
            gathering = self._gatherings[group] = _Gathering()
            gathering.departure = loop.call_soon(self._depart, group, gathering)
        waiter: asyncio.Future[T] = loop.create_future()
        gathering.waiters.setdefault(key, []).append(waiter)
        gathering.waiting += 1
        if len(gathering.waiters) >= self._max_batch:
            self._depart(group, gathering)
        try:
            return await waiter
        finally:
            gathering.waiting -= 1
            if not gathering.waiting:
                self._abandon(group, gathering)

    async def many(self, keys: Iterable[K]) -> dict[K, T]:
        """Return the values of *keys*, in their order; the loader gets at most ``max_batch`` of them at once.

        Raises:
            As `get_or_set_many`.
        """
        found: dict[K, T] = {}
        for chunk in self._chunks(keys):
            found |= await self._cache.get_or_set_many(chunk, self._loader, **self._options)
        return found

    def _depart(self, group: tuple[Any, Any], gathering: _Gathering) -> None:
        if self._gatherings.get(group) is gathering:
            del self._gatherings[group]
        if gathering.departure is not None:
            gathering.departure.cancel()
            gathering.departure = None
            # Those who were cancelled meanwhile take their keys with them.
            still = {key: [waiter for waiter in waiters if not waiter.done()] for key, waiters in gathering.waiters.items()}
            gathering.waiters = {key: waiters for key, waiters in still.items() if waiters}
            gathering.task = group[0].create_task(self._fly(gathering), name="forebay-batch", context=gathering.context)
            self._tasks.add(gathering.task)
            gathering.task.add_done_callback(self._tasks.discard)

    def _abandon(self, group: tuple[Any, Any], gathering: _Gathering) -> None:
        if gathering.departure is not None:
            gathering.departure.cancel()
            gathering.departure = None
            if self._gatherings.get(group) is gathering:
                del self._gatherings[group]
        elif gathering.task is not None:
            gathering.task.cancel()

    async def _fly(self, gathering: _Gathering) -> None:
        try:
            values = await self._cache.get_or_set_many(list(gathering.waiters), self._loader, **self._options)
        except Exception as error:  # noqa: BLE001 - it is raised in all who wait
            gathering.fail(error)
        except BaseException as error:
            gathering.fail(LoaderCancelled(f"the load of a batch of {len(gathering.waiters)} keys was ended by {type(error).__name__}"))
            raise
        else:
            gathering.land(values)


class _Convoy:
    """Keys that go together, and the event for which all but the first caller wait."""

    __slots__ = ("abandoned", "callers", "done", "error", "values")

    def __init__(self, key: Key) -> None:
        self.callers: dict[Key, int] = {key: 1}
        self.done = threading.Event()
        self.values: Mapping[Key, Any] = {}
        self.error: Exception | None = None
        self.abandoned = False


class Batched(_Batching[K, T]):
    """Reads single keys of a `Cache` in batches. Made by `Cache.batched`; all threads may share it."""

    def __init__(self, cache: Any, loader: Callable[[list[K]], Any], max_batch: int, options: Mapping[str, Any]) -> None:
        super().__init__(cache, loader, max_batch, options)
        if is_async(loader):
            raise TypeError(
                f"{getattr(loader, '__qualname__', loader)} is asynchronous, and a Cache does not await: "
                "make it a plain def, or use a cache of AsyncForebay"
            )
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with no batch under way: at the start, and in a forked child, where the threads that would end one do not run."""
        self._lock = threading.Lock()
        self._under_way: _Convoy | None = None
        self._next: _Convoy | None = None

    def __call__(self, key: K) -> T:
        """Return the value of *key*, read and if need be loaded together with all that are asked for while a batch is under way.

        The loader runs on the thread of one of the callers. What it leaves out is None.

        Raises:
            InvalidKey: the key cannot be used.
            Exception: whatever `get_or_set_many` raised, in every caller of the batch.
        """
        self._check(key)
        if aloft.get():  # part of a load: it must not wait for a batch that may wait for that very load
            alone: T = self._values([key])[key]
            return alone
        while True:
            with self._lock:
                convoy = self._next
                leads = convoy is None or len(convoy.callers) >= self._max_batch
                if convoy is None or leads:
                    convoy = _Convoy(key)
                    before = self._under_way
                    if before is None:
                        self._under_way = convoy
                    else:
                        self._next = convoy
                else:
                    convoy.callers[key] = convoy.callers.get(key, 0) + 1
            if leads:
                self._lead(convoy, before)
            else:
                convoy.done.wait()
                if convoy.abandoned:
                    continue
            if convoy.error is not None:
                raise convoy.error
            value: T = convoy.values[key]
            # Callers never share what can change; the value itself stays as it is while the others copy it.
            return value if convoy.callers[key] == 1 else copied(value)

    def many(self, keys: Iterable[K]) -> dict[K, T]:
        """Return the values of *keys*, in their order; the loader gets at most ``max_batch`` of them at once.

        Raises:
            As `get_or_set_many`.
        """
        found: dict[K, T] = {}
        for chunk in self._chunks(keys):
            found |= self._values(chunk)
        return found

    def _values(self, keys: list[Any]) -> dict[Any, Any]:
        values: dict[Any, Any] = self._cache.get_or_set_many(keys, self._loader, **self._options)
        return values

    def _lead(self, convoy: _Convoy, before: _Convoy | None) -> None:
        """Make the way for all who joined; who is interrupted meanwhile leaves them to lead themselves."""
        try:
            if before is not None:
                before.done.wait(_PATIENCE)
                with self._lock:
                    if self._next is convoy:
                        self._next = None
                    self._under_way = convoy
            convoy.values = self._values(list(convoy.callers))
        except Exception as error:  # noqa: BLE001 - it is raised in all who wait
            convoy.error = error
        except BaseException:
            convoy.abandoned = True
            raise
        finally:
            with self._lock:
                if self._next is convoy:
                    self._next = None
                if self._under_way is convoy:
                    self._under_way = None
            convoy.done.set()
