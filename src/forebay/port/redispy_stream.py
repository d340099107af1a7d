"""Messages over a connection of their own, made as the client makes its own ones; it counts in no pool, and only we close it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from ..errors import ConnectFailed, ConnectionLost
from ..wire.resp import Push, Reply
from .redispy_replies import Errors

__all__ = ["ClientStream"]


class ClientStream:
    """A `forebay.wire.node.Stream` over a connection of redis-py or valkey-py."""

    def __init__(
        self,
        kind: type[Any],
        options: Mapping[str, Any],
        settled: Callable[[Any], Awaitable[Any]],
        errors: Errors,
        left: Callable[[ClientStream], None],
        *,
        awaits: bool,
    ) -> None:
        self._connection: Any = kind(**{**options, "decode_responses": False})
        self._settled = settled
        self._errors = errors
        self._left = left
        self._awaits = awaits
        self._closed = False

    async def open(self) -> None:
        """Connect, or raise `ConnectFailed`."""
        try:
            await self._settled(self._connection.connect())
        except self._errors.caught as error:
            raise ConnectFailed(f"no connection for messages: {self._errors.translated(error)}") from error

    async def send(self, packed: bytes) -> None:
        """Send a command whose answer is messages."""
        try:
            await self._settled(self._connection.send_packed_command([packed], check_health=False))
        except self._errors.caught as error:
            raise ConnectionLost(f"the connection for messages is lost: {self._errors.translated(error)}") from error

    async def ask(self, packed: Sequence[bytes]) -> list[Reply]:
        """Send commands that are answered, and return their replies, refusals as values."""
        try:
            await self._settled(self._connection.send_packed_command(list(packed), check_health=False))
            return [await self._settled(self._connection.read_response()) for _ in packed]
        except self._errors.caught as error:
            raise ConnectionLost(f"the connection for messages is lost: {self._errors.translated(error)}") from error

    async def next(self, timeout: float | None) -> Push | None:
        """Return the next message as the server sent it, or None if there was none in time.

        Raises:
            ConnectionLost: there will be no more.
        """
        try:
            return cast("Push | None", await self._read(timeout))
        except self._errors.caught as error:
            if "TimeoutError" in {cls.__name__ for cls in type(error).__mro__}:
                return None  # half a message: its rest is read the next time
            raise ConnectionLost(f"the connection for messages is lost: {self._errors.translated(error)}") from error
        except (AttributeError, TypeError, ValueError) as error:
            if not self._closed:
                raise
            raise ConnectionLost("the connection for messages was closed by another thread") from error

    async def close(self) -> None:
        """Disconnect; safe to call again."""
        if not self._closed:
            self._closed = True
            self._left(self)
            await self._settled(self._connection.disconnect())

    async def _read(self, timeout: float | None) -> Any:
        connection = self._connection
        if self._closed:
            raise ConnectionLost("the connection for messages is closed")
        if self._awaits:
            return await connection.read_response(timeout=timeout, disconnect_on_error=False, push_request=True)
        if not connection.can_read(timeout=timeout):
            return None
        return connection.read_response(disconnect_on_error=False, push_request=True)
