"""A miss becomes one load: the leader calls the loader, encodes and stores; everybody aboard decodes the same bytes.

So a miss returns what a hit would, and no two callers share one mutable value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..codecs.codec import Codec
from ..errors import LoaderCancelled, RecursiveLoad, ServerError, Unavailable
from ..keys import Key
from ..port.port import Arg, Port
from .flights import Flight, Flights, aloft
from .tally import Tally

__all__ = ["Loading"]


class Loading:
    """Loads for one cache. *fill_failed* hears of a value that could not be stored, and may raise."""

    def __init__(
        self,
        port: Port,
        flights: Flights,
        codec: Codec[Any],
        kind: Any,
        tally: Tally,
        fill_failed: Callable[[Key, Unavailable | ServerError], None],
    ) -> None:
        self._port = port
        self._flights = flights
        self._codec = codec
        self._kind = kind if kind.__hash__ is not None else id(codec)
        self._tally = tally
        self._fill_failed = fill_failed

    async def share(self, name: str, key: Key, loader: Callable[[], Any], lifetime: tuple[Arg, ...]) -> bytes:
        """Return the encoded value of *key* from the load that is under way, or from a new one by *loader*.

        The load is not the leader's own: it goes on while anybody waits, whoever is cancelled.

        Raises:
            RecursiveLoad: the loader asks for the key that it loads.
            LoaderCancelled: the load was cancelled from inside, or because the bay closed.
            Exception: whatever the loader, the codec or *fill_failed* raised.
        """
        flight, leads = self._flights.board(name, self._kind)
        try:
            if leads:
                flight.cancel = self._port.launch(self._fly(flight, key, loader, lifetime))
            elif flight in aloft.get():
                raise RecursiveLoad(f"the loader of key {key!r} asks the cache for that same key, and would wait for itself")
            return await flight.promise.wait()
        finally:
            self._flights.leave(flight)

    async def _fly(self, flight: Flight, key: Key, loader: Callable[[], Any], lifetime: tuple[Arg, ...]) -> None:
        token = aloft.set(aloft.get() | {flight})
        try:
            packed = await self._load(loader)
            if not flight.void:
                await self._fill(flight.name, key, packed, lifetime)
        except BaseException as error:
            self._flights.land(flight, well=False)
            if not isinstance(error, Exception):
                flight.promise.fail(LoaderCancelled(f"the load of key {key!r} was ended by {type(error).__name__}"))
                raise
            flight.promise.fail(error)
        else:
            self._flights.land(flight, well=True)
            flight.promise.keep(packed)
        finally:
            aloft.reset(token)

    async def _load(self, loader: Callable[[], Any]) -> bytes:
        try:
            value = await self._port.call(loader)
        except BaseException:
            self._tally.load_errors += 1
            raise
        self._tally.loads += 1
        return self._codec.encode(value)

    async def _fill(self, name: str, key: Key, packed: bytes, lifetime: tuple[Arg, ...]) -> None:
        try:
            await self._port.execute("SET", name, packed, *lifetime)
        except (Unavailable, ServerError) as error:
            self._fill_failed(key, error)
