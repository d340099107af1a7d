import asyncio

import pytest

from forebay.port.blocking import BlockingPort
from forebay.port.port import complete


async def nested(value):
    async def inner():
        return value

    return await inner()


def test_complete_returns_and_raises_what_the_coroutine_does():
    assert complete(nested(5)) == 5

    async def fails():
        raise KeyError("k")

    with pytest.raises(KeyError):
        complete(fails())


def test_complete_refuses_a_coroutine_that_suspends_and_closes_it():
    closed = []

    async def suspends():
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="suspended on a blocking port"):
        complete(suspends())
    assert closed == [True]


def test_a_sync_loader_must_not_return_an_awaitable():
    async def loader():
        raise AssertionError("never runs")

    port = BlockingPort.__new__(BlockingPort)
    with pytest.raises(TypeError, match=r"loader.*returned an awaitable.*AsyncForebay"):
        complete(port.call(loader))
    assert complete(port.call(lambda: 3)) == 3
