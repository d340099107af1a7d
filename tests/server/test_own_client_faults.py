"""A bay over a client of one's own tells what went wrong in Forebay's own terms, and leaves no reply behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from forebay import (
    AsyncForebay,
    ConnectFailed,
    DeadlineExceeded,
    EmbeddedServer,
    Overloaded,
    ReadFailed,
    Refused,
    ServerError,
    SettingsError,
    Unavailable,
)
from tests.either import as_either
from tests.own_clients import BOTH, ended, result


@pytest.fixture
def private():
    with EmbeddedServer(port=0) as server:
        yield server


@pytest.mark.parametrize("kind", BOTH, ids=str)
async def test_with_the_server_gone_reads_miss_and_are_reported_and_invalidations_raise(kind, private):
    events = []
    made = kind.client(private.url, **kind.patient)
    bay = await as_either(kind.bay(made, on_event=events.append)).connect()
    cache = bay.cache("user", ttl=60)
    await cache.set(1, "a")
    private.stop()
    assert await cache.get(1) is None
    assert await cache.get_or_set(1, lambda: "loaded") == "loaded"
    assert [type(event) for event in events][:2] == [ReadFailed, ReadFailed]
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as caught:
        await cache.delete(1)
    assert caught.value.__cause__ is not None
    with pytest.raises(Unavailable):
        await bay.transaction([("SET", "a", 1)])
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1"):
        await bay.connect()
    await (await as_either(kind.bay(made, required=False)).connect()).close()
    await ended(made)


@pytest.mark.parametrize("kind", BOTH, ids=str)
async def test_what_the_server_will_not_do_now_is_refused(kind, private):
    made = kind.client(private.url, **kind.patient)
    bay = as_either(kind.bay(made))
    await bay.execute("CONFIG", "SET", "min-replicas-to-write", 1)
    with pytest.raises(Refused, match="NOREPLICAS"):
        await bay.execute("SET", "a", 1)
    await bay.execute("CONFIG", "SET", "min-replicas-to-write", 0)
    await bay.execute("CONFIG", "SET", "maxmemory", 1, "maxmemory-policy", "noeviction")
    with pytest.raises(Refused) as caught:
        await bay.execute("SET", "a", 1)
    assert caught.value.code == "OOM"
    [refusal] = await bay.pipeline([("SET", "a", 1)], errors="return")
    assert isinstance(refusal, Refused)
    await bay.execute("CONFIG", "SET", "maxmemory", 0)
    await bay.execute("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(Refused) as caught:
        await bay.execute("SET", "a", 1)
    assert caught.value.code == "READONLY"
    with pytest.raises(Refused):
        await bay.transaction([("SET", "a", 1)])
    await ended(made)


@pytest.mark.parametrize("kind", BOTH, ids=str)
async def test_a_transaction_that_may_not_begin_does_not_run_its_commands_one_by_one(kind, private):
    async with AsyncForebay(private.url) as admin:
        await admin.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-multi")
        made = kind.client(private.url, username="app", password="secret")
        with pytest.raises(ServerError) as caught:
            await as_either(kind.bay(made)).transaction([("SET", "a", 1), ("SET", "b", 2)])
        assert caught.value.code == "NOPERM"
        assert await admin.execute("EXISTS", "a", "b") == 0
    await ended(made)


@pytest.mark.parametrize("kind", BOTH, ids=str)
async def test_a_wrong_password_is_told_and_not_shown(kind):
    with EmbeddedServer(port=0, options=["--requirepass", "hunter2"]) as guarded:
        for password in ({"password": "wr0ngpw"}, {}):
            made = kind.client(guarded.url, **kind.patient, **password)
            with pytest.raises(ConnectFailed, match="account") as caught:
                await as_either(kind.bay(made)).connect()
            assert "wr0ngpw" not in str(caught.value) + repr(caught.value.__cause__)
            await ended(made)


@pytest.mark.parametrize("kind", BOTH, ids=str)
async def test_a_pool_without_a_free_connection_is_overloaded(kind, url):
    made = kind.client(url, max_connections=1, **kind.patient)
    taken = made.pubsub()
    await result(taken.subscribe("anything"))
    with pytest.raises(Overloaded, match="max_connections"):
        await as_either(kind.bay(made)).execute("PING")
    await ended(taken)
    await ended(made)


@pytest.mark.parametrize("kind", BOTH, ids=str)
async def test_the_clients_own_timeout_is_a_deadline(kind, url, prefix):
    made = kind.client(url, socket_timeout=0.05, **kind.patient)
    bay = as_either(kind.bay(made))
    with pytest.raises(DeadlineExceeded, match="no reply in time"):
        await bay.execute("BLPOP", f"{prefix}nothing", 5)
    assert await bay.execute("PING") == b"PONG"
    await ended(made)


@pytest.mark.parametrize("kind", [kind for kind in BOTH if kind.colour == "asyncio"], ids=str)
async def test_a_timeout_or_a_cancelled_call_leaves_no_reply_behind(kind, url, prefix):
    made = kind.client(url, max_connections=1)
    bay = kind.bay(made)
    with pytest.raises(DeadlineExceeded, match="the deadline passed"):
        await bay.execute("BLPOP", f"{prefix}list", 5, timeout=0.02)
    with pytest.raises(DeadlineExceeded):
        await bay.pipeline([("PING",), ("BLPOP", f"{prefix}list", 5)], timeout=0.02)
    waiting = asyncio.ensure_future(bay.execute("BLPOP", f"{prefix}list", 5))
    async with AsyncForebay(url) as other:
        while b"cmd=blpop" not in await other.execute("CLIENT", "LIST"):
            await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await bay.execute("ECHO", "mine") == b"mine"
    assert await bay.execute("ECHO", "also mine", timeout=5) == b"also mine"
    await ended(made)


@pytest.mark.parametrize("kind", [kind for kind in BOTH if kind.colour == "threads"], ids=str)
def test_threads_cannot_bound_a_call_and_are_told(kind, url):
    made = kind.client(url)
    bay = kind.bay(made)
    with pytest.raises(SettingsError, match="set socket_timeout on the client"):
        bay.execute("PING", timeout=1)
    assert bay.execute("PING", idempotent=True, replica=True) == b"PONG"
    made.close()


@pytest.mark.parametrize("kind", [kind for kind in BOTH if kind.colour == "threads"], ids=str)
def test_many_threads_share_a_bay(kind, url, prefix):
    made = kind.client(url)
    bay = kind.bay(made, prefix=prefix)
    cache, wrong = bay.cache("user", ttl=60), []

    def work(own):
        for number in range(50):
            cache.set(f"{own}:{number}", [own, number])
            if cache.get(f"{own}:{number}") != [own, number]:
                wrong.append((own, number))

    threads = [threading.Thread(target=work, args=(own,)) for own in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.clear() == 400
    made.close()
