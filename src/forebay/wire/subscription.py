"""Messages on a connection of their own. When it breaks it is opened anew, and the gap is reported: what was sent meanwhile is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from ..errors import Closed, ConnectFailed, ConnectionLost, InvalidCommand
from ..events import Reporter, SubscriptionInterrupted
from .resilience import pause_before
from .resp import Arg, Push, pack

if TYPE_CHECKING:
    from .node import Stream
    from .route import Route
    from .waiting import Waiting

__all__ = ["Message", "SubscriptionCore"]

_LOOK_EVERY = 1.0


class Message(Struct, frozen=True):
    """What somebody published. ``pattern`` is the pattern that matched, None for a channel that was named."""

    channel: str
    data: bytes
    pattern: str | None = None


class SubscriptionCore:
    """The operations of a subscription, once for both colours."""

    def __init__(self, route: Route, waiting: Waiting, reporter: Reporter, channels: Sequence[Arg], patterns: Sequence[Arg]) -> None:
        if not channels and not patterns:
            raise InvalidCommand("a subscription needs at least one channel or pattern")
        self._route = route
        self._waiting = waiting
        self._reporter = reporter
        self._commands = [pack(("SUBSCRIBE", *channels))] if channels else []
        self._commands += [pack(("PSUBSCRIBE", *patterns))] if patterns else []
        self._expected = len(channels) + len(patterns)
        self._stream: Stream | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect and subscribe; return when the server has confirmed every channel.

        Raises:
            ConnectFailed: the server cannot be reached, or did not confirm in time.
        """
        stream = await self._route.stream()
        try:
            for command in self._commands:
                await stream.send(command)
            confirmed = 0
            while confirmed < self._expected:
                push = await stream.next(_LOOK_EVERY * 5)
                if push is None:
                    raise ConnectFailed("the server did not confirm the subscription")
                confirmed += push[0] in (b"subscribe", b"psubscribe")
        except BaseException:
            await stream.close()
            raise
        self._stream = stream

    async def next(self, timeout: float | None) -> Message | None:
        """Return the next message, or None if none came within *timeout* seconds.

        Raises:
            Closed: the subscription or its bay was closed.
        """
        left = timeout
        while True:
            if self._closed or self._waiting.stopped:
                raise Closed("this subscription is closed")
            step = _LOOK_EVERY if left is None else min(_LOOK_EVERY, left)
            push = await self._next_push(step)
            message = None if push is None else _message(push)
            if message is not None:
                return message
            if left is not None and push is None:
                left -= step
                if left <= 0:
                    return None

    async def close(self) -> None:
        """Unsubscribe by closing the connection."""
        self._closed = True
        if self._stream is not None:
            await self._stream.close()

    async def _next_push(self, timeout: float) -> Push | None:
        attempt = 0
        while not (self._closed or self._waiting.stopped):
            try:
                if self._stream is None:
                    await self.open()
                assert self._stream is not None  # noqa: S101
                return await self._stream.next(timeout)
            except (ConnectFailed, ConnectionLost) as error:
                if self._stream is not None:
                    await self._stream.close()
                    self._stream = None
                    if not self._closed:
                        self._reporter.report(SubscriptionInterrupted(error))
                attempt += 1
                await self._waiting.sleep(pause_before(attempt))
        return None


def _message(push: Push) -> Message | None:
    if push[0] == b"message":
        return Message(_text(push[1]), push[2])
    if push[0] == b"pmessage":
        return Message(_text(push[2]), push[3], _text(push[1]))
    return None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
