"""asyncio: every caller on a loop shares that loop's one connection to a node; whoever finds it missing waits for one common dial."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from ..errors import ConnectFailed, DeadlineExceeded, ForebayError, Overloaded, ServerError, Unavailable
from ..events import ConnectionDropped, TrackingRefused, WentWithout
from ..forks import renew_after_fork
from .address import Address
from .dialling import connected
from .gatherable import Gatherable
from .handshake import Role
from .hurry import hurry_of, patience_of
from .lanes import Lanes
from .link import Link
from .node import Asked, Setup
from .node_base import PROBE_TIMEOUT, NodeBase
from .resp import PING, Push, Reply, pack
from .sockets import explained
from .stats import NodeStats
from .stream import AioStream
from .tracking import CACHING

__all__ = ["Multiplexer"]

_Loop = asyncio.AbstractEventLoop


class Multiplexer(NodeBase):
    """The asyncio colour of `Node`: one shared connection for each event loop, and lanes beside it."""

    def __init__(self, address: Address, role: Role, setup: Setup) -> None:
        super().__init__(address, role, setup)
        self._links: dict[_Loop, Link] = {}
        self._lanes: dict[_Loop, Lanes] = {}
        self._dials: dict[_Loop, asyncio.Task[Link]] = {}
        self._greeting: set[Link] = set()
        self._inherited: list[object] = []
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget every loop, in a forked child: they run in the parent.

        Their transports are kept out of the collector's hands, for closing one would take it out of the parent's selector.
        """
        self._inherited += [self._links, self._dials, self._lanes]
        self._links, self._dials, self._lanes = {}, {}, {}

    def send(self, packed: bytes, timeout: float | None = None) -> Awaitable[Reply]:
        """Send one command; await what is returned for its reply.

        Raises (when awaited):
            Unavailable: see its subclasses for what happened.
            ServerError: the server refused.
        """
        if self._large and packed in self._large:
            return self._send_large(packed, timeout)
        if timeout is None:
            link = self._links.get(asyncio.get_running_loop())
            if link is not None and link.ready:
                return link.send(packed)
            timeout = patience_of(hurry_of(packed), self._settings)
        return self._send_when_ready(lambda link: link.send(packed), len(packed), timeout)

    async def send_many(self, packed: Sequence[bytes], timeout: float | None = None) -> list[Reply]:
        """Send several commands in one write; refusals by the server stand in the list as `ServerError` values."""
        link = self._ready() if timeout is None else None
        if link is not None:
            return await link.send_batch(packed)
        size = sum(map(len, packed))
        replies: list[Reply] = await self._send_when_ready(lambda link: link.send_batch(packed), size, timeout)
        return replies

    def send_pair(self, first: bytes, second: bytes) -> tuple[Asked, Asked] | None:
        """Send two commands in one write, now; None if the connection is not ready for them."""
        link = self._ready()
        return None if link is None else link.send_pair(first, second)

    def gather(self, script: Gatherable, keys: bytes, key_count: int, words: bytes, word_count: int) -> Awaitable[Reply] | None:
        """Add a record to the call that all make together in this tick; None if the connection is not ready for that."""
        link = self._links.get(asyncio.get_running_loop())
        return link.gather(script, keys, key_count, words, word_count) if link is not None and link.ready else None

    async def send_tracked(self, packed: Sequence[bytes], timeout: float, *, told: bool) -> tuple[list[Reply], Link | None]:
        """Send reads in one write, the first one tracked if we are to be *told*; return the replies, and the connection if it tells."""
        packed = [CACHING, *packed] if told else packed
        link = self._ready()
        if link is not None:
            replies = await link.send_batch(packed)
        else:
            used: list[Link] = []

            def send(ready: Link) -> asyncio.Future[list[Reply]]:
                used.append(ready)
                return ready.send_batch(packed)

            replies = await self._send_when_ready(send, sum(map(len, packed)), timeout)
            link = used[0]
        refused = told and isinstance(replies.pop(0), ServerError)
        return replies, None if refused or not link.tracks or link.broken is not None else link

    def _ready(self) -> Link | None:
        link = self._links.get(asyncio.get_running_loop())
        return link if link is not None and link.ready else None

    async def send_alone(self, packed: Sequence[bytes], timeout: float | None = None) -> list[Reply]:
        """Send commands on a lane; *timeout* is for their replies (default: the read timeout, ``math.inf``: for ever)."""
        limit = self._settings.read_timeout if timeout is None else timeout
        loop = asyncio.get_running_loop()
        lanes = self._lanes.get(loop)
        if lanes is None:
            self._forget_closed_loops()
            lanes = self._lanes[loop] = Lanes(self._open_lane, self._settings, self._meter)
        patience = min(limit, self._settings.read_timeout)
        return await lanes.call(packed, patience, None if limit == float("inf") else limit)

    async def stream(self, patience: float) -> AioStream:
        """Open a connection for pushes, apart from all others."""
        self._check_open()
        stream = AioStream()
        try:
            async with asyncio.timeout(patience):
                stream.link = await self._open(stream.ended, self._settings.read_timeout, stream.take)
        except TimeoutError as error:
            raise ConnectFailed(f"cannot connect to {self.address}: no answer within {patience:.3g} s") from error
        return stream

    async def connect(self) -> None:
        """Open this loop's connection now, or raise `ConnectFailed`."""
        await self._ready_link()

    async def close(self) -> None:
        """Let what is in flight finish, for at most the close timeout, and close every connection of this loop."""
        self._closed = True
        loop = asyncio.get_running_loop()
        dial = self._dials.pop(loop, None)
        if dial is not None:
            dial.cancel()
            await asyncio.wait([dial])
        for link in [link for link in self._greeting if link.loop is loop]:
            link.drop(ConnectionResetError("the bay is closing"))
        mine = (self._lanes.pop(loop, None), self._links.pop(loop, None))
        await asyncio.gather(*(each.close(self._settings.close_timeout) for each in mine if each is not None))

    def stats(self) -> NodeStats:
        """Return counts of connections and of commands in flight."""
        links, lanes = list(self._links.values()), list(self._lanes.values())
        opened, busy = sum(lane.open for lane in lanes), sum(lane.busy for lane in lanes)
        return self._numbers(
            connections=len(links) + opened,
            idle=sum(not link.in_flight for link in links) + opened - busy,
            in_flight=sum(link.in_flight for link in links) + busy,
        )

    async def _send_large(self, packed: bytes, timeout: float | None) -> Reply:
        """Send on a lane what had a large reply before, and remember no longer if the reply is small by now."""
        (reply,) = await self.send_alone([packed], timeout)
        if isinstance(reply, bytes | None) and len(reply or b"") <= self._settings.large_value:
            self._large.discard(packed)
        if isinstance(reply, ServerError):
            raise reply
        return reply

    async def _send_when_ready(self, send: Callable[[Link], asyncio.Future[Reply]], size: int, timeout: float | None) -> Reply:
        limit = self._settings.read_timeout if timeout is None else timeout
        link: Link | None = None
        try:
            async with asyncio.timeout(limit):
                link = await self._ready_link(size)
                return await send(link)
        except TimeoutError as error:
            if isinstance(error, ForebayError):
                raise
            if link is not None:
                raise DeadlineExceeded(f"{self.address} did not answer within {limit:g} s") from error
            if not self.breaker.closed:
                raise self.breaker.refusal() from error
            if asyncio.get_running_loop() in self._links:
                self._meter.timeouts += 1
                raise Overloaded(
                    f"{self.address} had {self._settings.max_in_flight} commands or {self._settings.max_in_flight_bytes} bytes in flight "
                    f"for {limit:.3g} s, and this command was not sent; raise REDIS_MAX_IN_FLIGHT or REDIS_MAX_IN_FLIGHT_BYTES, "
                    "or send less at once"
                ) from error
            failure = ConnectFailed(f"cannot connect to {self.address}: there was no connection within {limit:g} s")
            failure.waited = limit
            raise failure from error

    async def _ready_link(self, size: int = 0) -> Link:
        loop = asyncio.get_running_loop()
        while True:
            self._check_open()
            link = self._links.get(loop)
            if not self.breaker.closed:
                await self._probe(link)
            elif link is None:
                await self._dial_together(loop)
            elif link.ready:
                return link
            else:
                await link.room(size)
                if link.broken is None and not link.closing and self.breaker.closed:
                    return link

    async def _probe(self, link: Link | None) -> None:
        """Find out whether the node is well again, if it is this caller's turn to.

        Raises:
            CircuitOpen: it is not, or somebody else is finding out.
        """
        if not self.breaker.admit():
            return
        try:
            async with asyncio.timeout(min(PROBE_TIMEOUT, self._settings.read_timeout / 2)):
                if link is None:
                    await self._dial_together(asyncio.get_running_loop())
                else:
                    await link.send(PING)
        except (Unavailable, TimeoutError) as error:
            self.breaker.probe_failed(error)
            if link is not None:
                link.drop(error)
            raise self.breaker.refusal() from error
        except BaseException:
            self.breaker.abandoned()
            raise
        else:
            self.breaker.succeeded()
            for each in list(self._links.values()):
                each.renew_ready()

    async def _dial_together(self, loop: _Loop) -> Link:
        dial = self._dials.get(loop)
        if dial is None:
            self._forget_closed_loops()
            dial = self._dials[loop] = loop.create_task(self._dial(loop), name="forebay-dial")
            dial.add_done_callback(lambda done: self._dial_ended(loop, done))
        try:
            return await asyncio.shield(dial)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if dial.cancelled() and (me is None or not me.cancelling()):  # the node was closed, and not this caller cancelled
                self._check_open()
            raise
        except ForebayError as error:
            own = type(error)(*error.args)  # an error, with its traceback and its fate, belongs to one caller
            raise own from error

    def _dial_ended(self, loop: _Loop, dial: asyncio.Task[Link]) -> None:
        if self._dials.get(loop) is dial:
            del self._dials[loop]
        if not dial.cancelled():
            dial.exception()  # each waiter has raised it; with none left, nobody needs to hear of it

    async def _dial(self, loop: _Loop) -> Link:
        await asyncio.sleep(min(self.breaker.pause(), self._settings.dial_timeout))
        link = await self._open(self._on_drop, timeout=self._settings.read_timeout)
        self._links[loop] = link
        return link

    async def _open_lane(self) -> Link:
        self._check_open()
        if not self.breaker.closed:
            await self._probe(self._links.get(asyncio.get_running_loop()))
        return await self._open(self._on_lane_drop)

    async def _open(
        self,
        on_drop: Callable[[Link, BaseException], None],
        timeout: float | None = None,
        on_push: Callable[[Push | ServerError], None] | None = None,
    ) -> Link:
        limit = self._settings.dial_timeout
        link: Link | None = None
        try:
            async with asyncio.timeout(limit):
                setup, listener = self._setup, self._setup.listener if on_drop == self._on_drop else None
                shake = partial(setup.handshake, self.role, tracks=listener is not None)
                handshake = await asyncio.to_thread(shake) if setup.slow_credentials else shake()
                large = self._remember_large if on_drop == self._on_drop else None
                shared = (self.address, self._settings, self.breaker, self._meter, setup.latencies)
                link = await connected(partial(Link, *shared, on_drop, timeout, on_push, large, listener), self.address, setup.tls)
                self._greeting.add(link)
                replies = await link.send_batch([pack(command) for command in handshake.commands()])
                where = str(self.address)
                handshake.check(replies, where, lambda kind, error: self._goes_without(link, kind(error, where)))
                self._check_open()
                await link.greeted()
        except BaseException as error:
            failure: BaseException = error
            hint = self._setup.hint(error, self.address)
            if isinstance(error, TimeoutError) and not isinstance(error, ForebayError):
                failure = ConnectFailed(f"cannot connect to {self.address}: no answer within {limit:g} s{hint}")
            elif isinstance(error, OSError | UnicodeError) or (isinstance(error, Unavailable) and not isinstance(error, ConnectFailed)):
                failure = ConnectFailed(f"cannot connect to {self.address}: {explained(error)}{hint}")
            if link is not None:
                link.drop(failure)
            if isinstance(failure, ConnectFailed):
                self.breaker.failed(failure)
            if failure is error:
                raise
            raise failure from error
        finally:
            if link is not None:
                self._greeting.discard(link)
        self._connected()
        link.renew_ready()
        return link

    def _goes_without(self, link: Link | None, event: WentWithout) -> None:
        if link is not None and isinstance(event, TrackingRefused):
            link.tracks = False
        self._setup.reporter.report(event)

    def _on_drop(self, link: Link, cause: BaseException) -> None:
        for loop, current in list(self._links.items()):
            if current is link:
                del self._links[loop]
                if not link.closing:
                    self._dropped(link, cause)

    def _on_lane_drop(self, link: Link, cause: BaseException) -> None:
        lanes = self._lanes.get(link.loop)
        if link.closing and lanes is not None and lanes.open <= 1:  # the last one, which says farewell with its loop
            del self._lanes[link.loop]
        at_work = any(lanes.lost(link) for lanes in self._lanes.values())
        if at_work and isinstance(cause, OSError | ForebayError):  # and not by its caller's leaving
            self._dropped(link, cause)

    def _dropped(self, link: Link, cause: BaseException) -> None:
        self._meter.dropped += 1
        if not self._closed:
            if not isinstance(cause, DeadlineExceeded):  # which its caller chose
                self.breaker.failed(cause)
            self._setup.reporter.report(ConnectionDropped(cause, str(link.address)))

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in {*self._links, *self._lanes} if loop.is_closed()]:
            self._links.pop(loop, None)
            self._lanes.pop(loop, None)

    def __repr__(self) -> str:
        return f"<Multiplexer {self.address}, {len(self._links)} connected, breaker {self.breaker.state}>"
