"""asyncio: every caller on a loop shares that loop's one connection; whoever finds it missing waits for one common dial."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..errors import Closed, ConnectFailed, Unavailable
from ..events import ConnectionDropped, NameRefused, Reporter
from ..forks import renew_after_fork
from ..settings import Settings
from .address import Address
from .handshake import check, greeting
from .link import Link
from .resp import Arg, Reply, pack
from .stats import WireStats

__all__ = ["Multiplexer"]

_Loop = asyncio.AbstractEventLoop


class Multiplexer:
    """One connection for each event loop, dialled when first used and again after it was lost.

    *locate* names the server's address; an embedded server starts there, so that one is asked in a thread.
    """

    def __init__(self, settings: Settings, locate: Callable[[], Address], reporter: Reporter) -> None:
        self._settings = settings
        self._locate = locate
        self._reporter = reporter
        self._links: dict[_Loop, Link] = {}
        self._dials: dict[_Loop, asyncio.Task[Link]] = {}
        self._inherited: list[object] = []
        self._closed = False
        self._dialled = 0
        self._dropped = 0
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget every loop, in a forked child: they run in the parent.

        Their transports are kept out of the collector's hands, for closing one would take it out of the parent's selector.
        """
        self._inherited += [self._links, self._dials]
        self._links, self._dials = {}, {}

    def execute(self, *args: Arg) -> Awaitable[Reply]:
        """Send one command; await what is returned for its reply.

        Raises (when awaited):
            InvalidCommand: an argument cannot be sent; raised at once.
            Unavailable: see its subclasses for what happened.
            ServerError: the server refused.
        """
        packed = pack(args)
        link = self._links.get(asyncio.get_running_loop())
        if link is not None and link.ready:
            return link.send(packed)
        return self._execute_when_ready(packed)

    async def execute_many(self, commands: Sequence[tuple[Arg, ...]]) -> list[Reply]:
        """Send several commands in one write; refusals by the server stand in the list as `ServerError` values."""
        packed = [pack(command) for command in commands]
        return await (await self._ready_link()).send_batch(packed) if packed else []

    async def connect(self) -> None:
        """Open this loop's connection now, or raise `ConnectFailed`."""
        await self._ready_link()

    async def close(self) -> None:
        """Let what is in flight finish, for at most the read timeout, and close every connection of this loop."""
        self._closed = True
        loop = asyncio.get_running_loop()
        dial = self._dials.pop(loop, None)
        if dial is not None:
            dial.cancel()
            await asyncio.wait([dial])
        link = self._links.pop(loop, None)
        if link is not None:
            await link.close(self._settings.read_timeout)

    def stats(self) -> WireStats:
        """Return counts of connections and of commands in flight."""
        links = list(self._links.values())
        return WireStats(
            connections=len(links),
            idle=sum(not link.in_flight for link in links),
            in_flight=sum(link.in_flight for link in links),
            dialled=self._dialled,
            dropped=self._dropped,
        )

    async def _execute_when_ready(self, packed: bytes) -> Reply:
        return await (await self._ready_link()).send(packed)

    async def _ready_link(self) -> Link:
        loop = asyncio.get_running_loop()
        while True:
            if self._closed:
                raise Closed("this bay is closed; open a new one")
            link = self._links.get(loop)
            if link is None:
                link = await self._dial_together(loop)
            if link.ready:
                return link
            await link.writable()

    async def _dial_together(self, loop: _Loop) -> Link:
        dial = self._dials.get(loop)
        if dial is None:
            self._forget_closed_loops()
            dial = self._dials[loop] = loop.create_task(self._dial(), name="forebay-dial")
            dial.add_done_callback(lambda done: self._dial_ended(loop, done))
        return await asyncio.shield(dial)

    def _dial_ended(self, loop: _Loop, dial: asyncio.Task[Link]) -> None:
        if self._dials.get(loop) is dial:
            del self._dials[loop]
        if not dial.cancelled():
            dial.exception()  # each waiter has raised it; with none left, nobody needs to hear of it

    async def _dial(self) -> Link:
        limit = self._settings.dial_timeout
        address: Address | None = None
        link: Link | None = None
        try:
            async with asyncio.timeout(limit):
                address = await self._address()
                link = await self._open(address)
                commands = [pack(command) for command in greeting(self._settings)]
                replies = await link.send_batch(commands)
                where = str(address)
                check(replies, self._settings, where, lambda error: self._reporter.report(NameRefused(error, where)))
        except BaseException as error:
            if link is not None:
                link.drop(error)
            place = self._settings.where if address is None else address
            if isinstance(error, TimeoutError):
                raise ConnectFailed(f"cannot connect to {place}: no answer within {limit:g} s") from error
            if isinstance(error, OSError) or (isinstance(error, Unavailable) and not isinstance(error, ConnectFailed)):
                raise ConnectFailed(f"cannot connect to {place}: {error}") from error
            raise
        self._dialled += 1
        loop = asyncio.get_running_loop()
        link.ready = True
        self._links[loop] = link
        return link

    async def _address(self) -> Address:
        if self._settings.topology == "embedded":
            return await asyncio.to_thread(self._locate)
        return self._locate()

    async def _open(self, address: Address) -> Link:
        loop = asyncio.get_running_loop()

        def link() -> Link:
            return Link(address, self._settings, self._on_drop)

        if address.path is not None:
            return (await loop.create_unix_connection(link, address.path))[1]
        return (await loop.create_connection(link, address.host, address.port))[1]

    def _on_drop(self, link: Link, cause: BaseException) -> None:
        for loop, current in list(self._links.items()):
            if current is link:
                del self._links[loop]
                self._dropped += 1
                if not self._closed:
                    self._reporter.report(ConnectionDropped(cause, str(link.address)))

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._links if loop.is_closed()]:
            del self._links[loop]

    def __repr__(self) -> str:
        return f"<Multiplexer {self._settings.where}, {len(self._links)} connected>"
