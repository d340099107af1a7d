"""One at a time, in both colours: whoever cannot wait any longer hears it as an error of Forebay's own."""

import asyncio
import math
import threading

import pytest

from forebay import AsyncForebay, ConnectFailed, Forebay, Unavailable
from forebay.colours import complete
from forebay.wire.waiting import BlockingWaiting
from forebay.wire.waiting_aio import AioWaiting


async def inside(waiting, patience, work):
    async with waiting.guard(patience):
        return work()


def test_threads_may_wait_for_ever():
    assert complete(inside(BlockingWaiting(), math.inf, lambda: "in")) == "in"


def test_threads_that_wait_too_long_hear_of_it():
    waiting, entered, go = BlockingWaiting(), threading.Event(), threading.Event()

    def hold():
        entered.set()
        go.wait()

    holder = threading.Thread(target=lambda: complete(inside(waiting, 1, hold)))
    holder.start()
    entered.wait()
    try:
        with pytest.raises(ConnectFailed, match="another caller"):
            complete(inside(waiting, 0.01, lambda: pytest.fail("two at a time")))
    finally:
        go.set()
        holder.join()
    assert complete(inside(waiting, 1, lambda: "in")) == "in"


async def test_tasks_that_wait_too_long_hear_of_it():
    waiting = AioWaiting()
    async with waiting.guard(math.inf):
        with pytest.raises(ConnectFailed, match="another caller"):
            await inside(waiting, 0.01, lambda: pytest.fail("two at a time"))
    assert await inside(waiting, 1, lambda: "in") == "in"


@pytest.mark.parametrize("command", [("PING",), ("SCAN", 0), ("DBSIZE",), ("GET", "k")])
async def test_a_cluster_that_is_away_is_unavailable_also_when_it_was_asked_just_now(command):
    url = "redis+cluster://127.0.0.1:1?read_timeout=200ms"
    bay = AsyncForebay(url, required=False)
    for error in await asyncio.gather(*(bay.execute(*command) for _ in range(8)), return_exceptions=True):
        assert isinstance(error, Unavailable)
    await bay.close()
    with Forebay(url, required=False) as sync:
        for _ in range(3):
            with pytest.raises(Unavailable):
                sync.execute(*command)
