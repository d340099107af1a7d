"""Behind sentinels the bay follows the primary wherever it goes, believes no sentinel until the server agrees, and loses no reply."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from forebay import AsyncForebay, ConnectFailed, Forebay
from tests.peer import peer
from tests.sentinels import SERVICE, SentinelSet
from tests.servers import Node, caught_up
from tests.topology.load import Load, check_read, eventually, under_load

MORE = 1.0  # seconds that the bay may take longer than the sentinels


async def write_and_read(bay: Any, load: Load, caller: int) -> None:
    """Write a new key, read it and an older one; the writes of every eighth caller wait for a replica to confirm them."""
    async for number in load.turns(bay, caller):
        key = f"{bay.prefix}{caller}:{number}"
        with load.turn(caller):
            if caller % 8:
                await bay.execute("SET", key, f"{key}=")
            else:
                _, replicas = await bay.pipeline([("SET", key, f"{key}="), ("WAIT", 1, 100)])
                if replicas >= 1:
                    load.confirmed[caller].append(key)
            load.acknowledged[caller].append(key)
            older = f"{bay.prefix}{caller}:{number // 2}"
            for asked, value in zip((key, older), await bay.pipeline([("GET", key), ("GET", older)]), strict=True):
                check_read(load, asked, value)


async def test_discovery_needs_one_sentinel(sentinels: SentinelSet, make_either: Any, prefix: str) -> None:
    for down in range(3):
        if down:
            await asyncio.to_thread(sentinels.stop_sentinel, down - 1)
        bay = await make_either(sentinels.url).connect()
        await bay.execute("SET", f"{prefix}{down}", down)
        assert await bay.execute("GET", f"{prefix}{down}") == b"%d" % down
        assert sentinels.master_node().call("GET", f"{prefix}{down}") == str(down)


async def test_a_killed_primary_under_load(sentinels: SentinelSet, make_either: Any, prefix: str) -> None:
    bay = await make_either(sentinels.url, prefix=prefix).connect()
    async with under_load(bay, write_and_read) as load:
        old = await asyncio.to_thread(sentinels.kill_master)
        killed_at = time.monotonic()
        new = await asyncio.to_thread(sentinels.await_new_master, old)
        named_at = time.monotonic()
        await eventually(lambda: load.all_served_since(named_at), "every caller is served by the new primary", MORE)
        back_at = time.monotonic()
    load.check()
    acknowledged = {key for keys in load.acknowledged.values() for key in keys}
    confirmed = {key for keys in load.confirmed.values() for key in keys}
    kept = {key for key in acknowledged if new.call("EXISTS", key)}
    print(
        f"sentinels named the new primary after {named_at - killed_at:.2f} s, all callers were served {back_at - named_at:.2f} s later; "
        f"{len(acknowledged)} writes acknowledged, {len(acknowledged - kept)} of them lost, {len(load.all_errors())} errors"
    )
    assert len(confirmed) > 0
    assert confirmed - kept == set()


async def test_a_planned_failover_is_followed(sentinels: SentinelSet, make_either: Any, prefix: str) -> None:
    bay = await make_either(sentinels.url, prefix=prefix).connect()
    old = sentinels.master_node()
    async with under_load(bay, write_and_read) as load:
        new = await asyncio.to_thread(sentinels.failover)
        assert new is not old
        await eventually(lambda: sentinels.all_switched_to(new), "every sentinel has switched", 10)
        named_at = time.monotonic()
        await eventually(
            lambda: load.all_served_since(named_at) and latest_writes_are_on(new, load), "every caller writes to the new primary", MORE
        )
        followed = {caller: len(keys) for caller, keys in load.acknowledged.items()}
        await asyncio.to_thread(sentinels.settled)
        refused = refusals(old, "READONLY")
        settled_at = time.monotonic()
        await eventually(lambda: load.all_served_since(settled_at), "every caller goes on", MORE)
    load.check()
    assert refusals(old, "READONLY") == refused, "writes still go to the old primary"
    since = [key for caller, keys in load.acknowledged.items() for key in keys[followed[caller] :]]
    assert since
    assert [key for key in since if not new.call("EXISTS", key)] == []


async def test_replicas_answer_reads_that_allow_it(sentinels: SentinelSet, make_either: Any, prefix: str) -> None:
    bay = await make_either(sentinels.url).connect()
    primary, replicas = sentinels.master_node(), sentinels.replicas()
    key = f"{prefix}key"
    await bay.execute("SET", key, "value")
    caught_up(primary, replicas)
    before = {node: node.calls("get") for node in sentinels.servers}
    for _ in range(20):
        assert await bay.execute("GET", key, replica=True) == b"value"
    assert sum(node.calls("get") - before[node] for node in replicas) == 20
    assert primary.calls("get") == before[primary]
    assert await bay.execute("GET", key) == b"value"
    assert primary.calls("get") == before[primary] + 1


async def test_a_killed_replica_is_no_trouble_for_reads(sentinels: SentinelSet, make_either: Any, prefix: str) -> None:
    bay = await make_either(sentinels.url).connect()
    key = f"{prefix}key"
    await bay.execute("SET", key, "value")
    caught_up(sentinels.master_node(), sentinels.replicas())
    for _ in range(5):
        assert await bay.execute("GET", key, replica=True) == b"value"
    sentinels.replicas()[0].kill()
    for _ in range(20):
        assert await bay.execute("GET", key, replica=True) == b"value"


async def test_without_any_sentinel_a_connected_bay_works_on(sentinels: SentinelSet, make_either: Any, prefix: str) -> None:
    bay = await make_either(sentinels.url).connect()
    for index in range(3):
        await asyncio.to_thread(sentinels.stop_sentinel, index)
    for number in range(50):
        await bay.execute("SET", f"{prefix}{number}", number)
        assert await bay.execute("GET", f"{prefix}{number}") == b"%d" % number
    late = make_either(sentinels.url)
    with pytest.raises(ConnectFailed) as failure:
        await late.connect()
    assert SERVICE in str(failure.value)
    assert all(f"127.0.0.1:{sentinel.port}" in str(failure.value) for sentinel in sentinels.sentinels)


async def test_an_unknown_service_is_named_with_the_sentinels(sentinels: SentinelSet, make_either: Any) -> None:
    bay = make_either(sentinels.url.replace(f"/{SERVICE}/", "/nobody-knows/"))
    with pytest.raises(ConnectFailed, match="nobody-knows") as failure:
        await bay.connect()
    assert all(f"127.0.0.1:{sentinel.port}" in str(failure.value) for sentinel in sentinels.sentinels)


async def test_a_sentinel_that_points_to_a_replica_is_not_believed(sentinels: SentinelSet, make_either: Any, prefix: str) -> None:
    replica = sentinels.replicas()[0]
    told = [b"name", SERVICE.encode(), b"ip", b"127.0.0.1", b"port", b"%d" % replica.port, b"flags", b"master", b"config-epoch", b"999999"]

    def lie(command: list[bytes]) -> bytes:
        if command[0] == b"SUBSCRIBE":
            return b">3\r\n" + array([b"subscribe", command[1]])[4:] + b":1\r\n"
        return array(told if command[1].upper() == b"MASTER" else told[3:6:2] if b"MASTER" in command[1].upper() else [])

    with peer(lie) as liar:
        liar.greeting |= {b"SENTINEL": array(told), b"SUBSCRIBE": lie([b"SUBSCRIBE", b"+switch-master"])}
        alone = make_either(f"redis+sentinel://127.0.0.1:{liar.port}/{SERVICE}/0")
        with pytest.raises(ConnectFailed) as failure:
            await alone.connect()
        assert str(replica.port) in str(failure.value)
        bay = await make_either(f"redis+sentinel://127.0.0.1:{liar.port},{sentinels.hosts}/{SERVICE}/0").connect()
        await bay.execute("SET", f"{prefix}key", "value")
        assert sentinels.master_node().call("GET", f"{prefix}key") == "value"
        await bay.close()


async def test_passwords_of_servers_and_of_sentinels(monkeypatch: pytest.MonkeyPatch, guarded: SentinelSet) -> None:
    with pytest.raises(ConnectFailed, match="(?i)auth"):
        await AsyncForebay(guarded.url).connect()
    monkeypatch.setenv("REDIS_SENTINEL_PASSWORD", "of-the-sentinels")
    async with AsyncForebay(guarded.url) as bay:
        await bay.execute("SET", "guarded", "1")
    with Forebay(guarded.url) as sync:
        assert sync.execute("GET", "guarded") == b"1"
        assert sync.execute("GET", "guarded", replica=True) in (b"1", None)


def refusals(node: Node, code: str) -> int:
    """Return how many commands *node* has refused with *code*."""
    return int(node.info("errorstats").get(f"errorstat_{code}", "count=0").partition("=")[2])


def latest_writes_are_on(node: Node, load: Load) -> bool:
    latest = [keys[-1] for keys in load.acknowledged.values()]
    return bool(node.call("EXISTS", *latest) == len(latest))


def array(items: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(b"$%d\r\n%b\r\n" % (len(item), item) for item in items)
