"""What the wire counts: pools, nodes, bytes, latencies, and the line in the log."""

import logging

import pytest

from forebay import InvalidDuration


async def test_the_line_in_the_log_comes_by_itself_and_ends_with_the_bay(make_either, url, caplog):
    import asyncio

    with caplog.at_level(logging.INFO, "forebay"):
        bay = await make_either(url, log_stats_every="20ms").connect()
        while sum("connections=" in record.getMessage() for record in caplog.records) < 2:
            await asyncio.sleep(0.005)
        await bay.close()
        count = len(caplog.records)
        await asyncio.sleep(0.06)
        assert len(caplog.records) == count
    line = caplog.records[0].getMessage()
    assert line.startswith(url.partition("/0")[0])
    for word in ("idle=", "in_flight=", "hits=", "misses=", "timeouts=", "reconnects=", "retries=", "sent=", "received=", "breaker=closed"):
        assert word in line


async def test_a_time_that_is_none_is_refused(make_either, url):
    with pytest.raises(InvalidDuration):
        make_either(url, log_stats_every="often")


async def test_what_is_counted(either, prefix):
    before = either.stats().wire
    for number in range(50):
        await either.execute("SET", f"{prefix}{number}", "x" * 100)
    after = either.stats().wire
    assert after.latency["SET"].count >= 50
    assert 0 < after.latency["SET"].p50 <= after.latency["SET"].p99 <= after.latency["SET"].max < 10
    assert after.bytes_sent - before.bytes_sent > 50 * 100
    assert after.bytes_received - before.bytes_received >= 50 * len(b"+OK\r\n")
    assert after.in_flight == 0
    (node,) = after.nodes
    assert (node.breaker, node.connections) == ("closed", after.connections)
    assert str(node.address) in str(either.stats())
