"""A lease never outlives its use: cancelled, closed, killed, lost on the way or swept away, the next caller loads at once or soon."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from forebay import AsyncForebay
from tests.races.gate import Gate
from tests.races.process import Process
from tests.server.test_near import until


class User(msgspec.Struct):
    name: str


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("many", [False, True], ids=["get_or_set", "get_or_set_many"])
async def test_a_caller_who_is_cancelled_at_its_lease_leaves_none(bay: Any, prefix: str, many: bool, side: str) -> None:
    gate = Gate(bay, awaits=True)
    cache = bay.cache("c", ttl=60)
    hold = gate.hold("lease", side)
    work = cache.get_or_set_many(["k", "l"], lambda _keys: never()) if many else cache.get_or_set("k", never)
    caller = asyncio.ensure_future(work)
    await hold.reached()
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    began = time.monotonic()
    await until(lambda: _absent(bay, f"{prefix}c:k", f"{prefix}c:l"), 2)
    assert time.monotonic() - began < 2  # and not the five seconds of a lease


async def _absent(bay: Any, *names: str) -> bool:
    return not await bay.execute("EXISTS", *names)


@pytest.mark.parametrize("many", [False, True], ids=["get_or_set", "get_or_set_many"])
async def test_a_bay_that_closes_gives_its_leases_back_first(bay: Any, url: str, prefix: str, many: bool) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    loading = asyncio.Event()

    async def load(_keys: Any = None) -> None:
        loading.set()
        await never()

    other = await AsyncForebay(url, prefix=prefix).connect()
    cache = other.cache("c", ttl=60)
    caller = asyncio.ensure_future(cache.get_or_set_many(["k"], load) if many else cache.get_or_set("k", load))
    await loading.wait()
    await bay.execute("SCRIPT", "FLUSH")  # so that giving back takes more than one round trip
    if many:  # its load is the caller's own
        caller.cancel()
        await asyncio.wait([caller])
    await other.close()
    assert await bay.execute("EXISTS", f"{prefix}c:k") == 0
    await asyncio.wait([caller])
    caller.cancelled() or caller.exception()
    assert complaints == []


@pytest.mark.parametrize("found", [None, b"\x01damaged", b"{no json"], ids=["absent", "damaged", "foreign"])
async def test_ones_own_token_is_recognised_when_the_reply_was_lost(either: Any, prefix: str, found: bytes | None) -> None:
    """The command is sent again, as after a lost connection, and finds what its first run has left."""
    if found is not None:
        await either.execute("SET", f"{prefix}c:k", found)
    port = either.port
    execute = port.execute

    async def twice(*args: Any, **options: Any) -> Any:
        if "NX" in args or args[0] in ("evalsha", "EVAL"):
            await execute(*args, **options)
        return await execute(*args, **options)

    port.execute = twice
    cache = either.cache("c", ttl=60)
    began = time.monotonic()
    assert await cache.get_or_set("k", lambda: 1) == 1
    assert time.monotonic() - began < 2  # it did not wait for its own lease to run out
    assert cache.stats().loads == 1


async def test_the_lease_of_a_killed_process_passes_to_who_waits(either: Any, server: Any, prefix: str) -> None:
    child = Process(server.url)
    try:
        child.tell(do="load and hang", prefix=prefix, options={"lease": 0.4})
        assert await asyncio.to_thread(child.hear) == "loading"
        cache = either.cache("c", ttl=60, lease=0.4)
        wrapped = getattr(cache, "wrapped", None)
        read = cache.get_or_set("k", lambda: "mine") if wrapped is None else asyncio.to_thread(wrapped.get_or_set, "k", lambda: "mine")
        waiter = asyncio.ensure_future(read)
        child.kill()
        assert await asyncio.wait_for(waiter, 3) == "mine"
    finally:
        child.close()


async def test_a_flush_in_mid_lease_ends_it(either: Any) -> None:
    cache = either.cache("c", ttl=60)
    gate_open = False

    def load() -> str:
        nonlocal gate_open
        gate_open = True
        return "old"

    execute = either.port.execute

    async def flushed(*args: Any, **options: Any) -> Any:
        nonlocal gate_open
        if gate_open and args[0] in ("evalsha", "EVALSHA"):
            gate_open = False
            await execute("FLUSHALL")
        return await execute(*args, **options)

    either.port.execute = flushed
    assert await cache.get_or_set("k", load) == "old"
    assert await cache.get("k") is None
    assert cache.stats().refused_fills == 1
    assert await cache.get_or_set("k", lambda: "new") == "new"


async def test_what_unless_keeps_out_is_a_load_and_no_failure(either: Any) -> None:
    cache = either.cache("c", ttl=60, stale_while_revalidate=60, stale_if_error=60)
    wrapped = getattr(cache, "wrapped", cache)
    calls = 0

    if wrapped is cache:

        @wrapped.cached(key="k", unless=lambda found: found < 0)
        async def number() -> int:
            nonlocal calls
            calls += 1
            return 1 if calls == 1 else -calls
    else:

        @wrapped.cached(key="k", unless=lambda found: found < 0)
        def number() -> int:
            nonlocal calls
            calls += 1
            return 1 if calls == 1 else -calls

    async def call() -> int:
        result = number()
        return await result if wrapped is cache else result

    assert await call() == 1
    await cache.mark_stale("k")
    assert await call() == 1  # and is refreshed in the background
    await until(lambda: cache.stats().loads == 2)
    stats = cache.stats()
    assert (stats.load_errors, stats.errors) == (0, 0)
    await until(lambda: _again(call, lambda: calls))  # at once: there was no failure to wait after


async def _again(call: Any, calls: Any) -> bool:
    await call()
    return bool(calls() >= 3)


async def test_what_a_loader_of_many_leaves_out_is_none_for_a_type_without_none(either: Any, prefix: str) -> None:
    users = either.cache("c", type=User, ttl=60)
    ada = User("Ada")
    assert await users.get_or_set_many([1, 2], lambda _keys: {1: ada}) == {1: ada, 2: None}
    assert await users.exists(2) is False
    await until(lambda: _absent(either, f"{prefix}c:2"), 2)
    assert await users.get_or_set_many([1, 2], lambda keys: {key: User(f"user {key}") for key in keys}) == {1: ada, 2: User("user 2")}


async def test_what_a_loader_of_many_leaves_out_is_stored_for_a_type_with_none(either: Any) -> None:
    users = either.cache("c", type=User | None, ttl=60)
    assert await users.get_or_set_many([1], lambda _keys: {}) == {1: None}
    assert await users.get_or_set_many([1], lambda _keys: pytest.fail("loaded")) == {1: None}


async def test_who_waits_for_a_key_that_another_leaves_out_asks_its_own_loader(bay: Any) -> None:
    users = bay.cache("c", type=User, ttl=60)
    begun, go = asyncio.Event(), asyncio.Event()

    async def many(keys: list[Any]) -> dict[Any, User]:
        begun.set()
        await go.wait()
        return {}

    first = asyncio.ensure_future(users.get_or_set_many([1], many))
    await begun.wait()
    second = asyncio.ensure_future(users.get_or_set_many([1], many))
    third = asyncio.ensure_future(users.get_or_set(1, lambda: User("Ada")))
    await bay.ping()
    go.set()
    assert await first == {1: None}
    assert await third == User("Ada")
    assert await second in ({1: None}, {1: User("Ada")})


async def test_what_is_marked_stale_is_not_fresh_by_a_clock_that_is_behind(either: Any, bay: Any) -> None:
    cache = either.cache("c", ttl=60, stale_if_error=60)
    await cache.set("k", "old")
    assert await cache.get("k") == "old"
    either._shared.clock._offset -= 100  # of half a slow round trip
    await bay.cache("c", ttl=60, stale_if_error=60).mark_stale("k")
    assert await cache.get("k") is None
    assert await cache.get_or_set("k", lambda: "new") == "new"


async def test_who_comes_too_late_for_what_a_flight_has_read_looks_again_and_takes_no_stale_copy(bay: Any, url: str, prefix: str) -> None:
    """The flight has read what another process stored; who joined after that read was sent may know of a later invalidation."""
    gate = Gate(bay, awaits=True)
    cache = bay.cache("c", ttl=60, stale_if_error=60)
    await cache.set("k", "older")
    await cache.mark_stale("k")
    asked = gate.hold("lease", "before")
    first = asyncio.ensure_future(cache.get_or_set("k", lambda: "new"))
    await asked.reached()
    async with AsyncForebay(url, prefix=prefix) as other:
        theirs = other.cache("c", ttl=60, stale_if_error=60)
        await theirs.delete("k")
        assert await theirs.get_or_set("k", lambda: "old") == "old"
        read = gate.hold("read", "after")
        asked.let_go()
        await read.reached()
        await theirs.mark_stale("k")
    late = asyncio.ensure_future(cache.get_or_set("k", lambda: "new"))
    await until(lambda: bay._shared.flights.waiting == 2)
    read.let_go()
    assert await first == "old"
    assert await late == "new"
