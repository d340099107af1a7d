"""Messages on a connection of their own. When it breaks it is opened anew, and the gap is reported: what was sent meanwhile is lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from ..errors import Closed, ConnectFailed, InvalidCommand, ServerError, Unavailable
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
        self._early: deque[Push] = deque()  # what came before every channel was confirmed
        self._attempt = 0
        self._closed = False

    async def open(self, patience: float | None = None) -> None:
        """Connect and subscribe, within *patience* seconds (default: the dial timeout); return when every channel is confirmed.

        Raises:
            ConnectFailed: the server cannot be reached, or did not confirm in time.
            ServerError: it refused.
            Closed: the subscription or its bay was closed meanwhile.
        """
        limit = time.monotonic() + (self._route.settings.dial_timeout if patience is None else patience)
        stream = await self._route.stream(None, patience)
        try:
            for command in self._commands:
                await stream.send(command)
            confirmed = 0
            while confirmed < self._expected:
                push = await stream.next(min(max(0.0, limit - time.monotonic()), self._route.settings.read_timeout))
                if push is None:
                    raise ConnectFailed("the server did not confirm the subscription in time")
                if push[0] in (b"subscribe", b"psubscribe"):
                    confirmed += 1
                else:
                    self._early.append(push)
            self._check_open()
        except BaseException:
            await stream.close()
            raise
        self._stream = stream

    async def next(self, timeout: float | None) -> Message | None:
        """Return the next message, or None if none came within *timeout* seconds.

        Raises:
            Closed: the subscription or its bay was closed.
            ServerError: the server refuses to subscribe anew.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            self._check_open()
            left = _LOOK_EVERY if limit is None else min(_LOOK_EVERY, limit - time.monotonic())
            if left <= 0:
                return None
            push = await self._next_push(left)
            message = None if push is None else _message(push)
            if message is not None:
                return message

    async def close(self) -> None:
        """Unsubscribe by closing the connection."""
        self._closed = True
        if self._stream is not None:
            await self._stream.close()

    async def _next_push(self, patience: float) -> Push | None:
        """Return the next push, or None if none came within *patience* seconds; open the connection anew if it was lost."""
        if self._early:
            return self._early.popleft()
        limit = time.monotonic() + patience
        try:
            if self._stream is None:
                await self.open(patience)
                self._attempt = 0
            assert self._stream is not None  # noqa: S101
            return await self._stream.next(max(0.0, limit - time.monotonic()))
        except (Unavailable, ServerError) as error:
            stream, self._stream = self._stream, None
            if stream is None and isinstance(error, ServerError) and not isinstance(error, Unavailable):
                raise  # it will not get better
            if stream is not None:
                await stream.close()
                self._check_open()
                self._reporter.report(SubscriptionInterrupted(error))
            self._attempt += 1
            await self._waiting.sleep(min(pause_before(self._attempt), max(0.0, limit - time.monotonic())))
            return None

    def _check_open(self) -> None:
        if self._closed or self._waiting.stopped:
            raise Closed("this subscription is closed")


def _message(push: Push) -> Message | None:
    if push[0] == b"message":
        return Message(_text(push[1]), push[2])
    if push[0] == b"pmessage":
        return Message(_text(push[2]), push[3], _text(push[1]))
    return None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
