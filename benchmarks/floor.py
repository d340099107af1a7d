"""The floor: the least that a multiplexed GET can cost in Python. No deadlines, no reconnecting, no decoding, no errors."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import hiredis


class Floor(asyncio.Protocol):
    """One future per command in a FIFO, one write per tick."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=self)
        self._slots: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, popleft = self._reader.gets, self._slots.popleft
        reply = gets()
        while reply is not self:
            slot = popleft()
            if not slot.done():
                slot.set_result(reply)
            reply = gets()

    def execute(self, *args: str | bytes | int) -> asyncio.Future[Any]:
        """Queue one command."""
        slot = self._loop.create_future()
        self._slots.append(slot)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(args))  # type: ignore[arg-type]
        return slot

    def _flush(self) -> None:
        self.transport.write(b"".join(self._out))
        self._out.clear()


async def connect(host: str, port: int) -> Floor:
    """Open the one connection."""
    return (await asyncio.get_running_loop().create_connection(Floor, host, port))[1]
