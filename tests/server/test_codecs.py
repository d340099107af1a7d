"""Each option of how values are stored, end to end, and what happens when it changes."""

import pytest

from forebay import EncodeError, Undecodable, new_sealing_key, train_dictionary

OPTIONS = {
    "msgpack": {"codec": "msgpack"},
    "compressed": {"compress_above": 10},
    "with a dictionary": {"compress_above": 10, "dictionary": train_dictionary([b'{"name": "%d", "team": "red"}' % n for n in range(500)])},
    "sealed": {"seal_keys": [new_sealing_key()]},
    "all": {"codec": "msgpack", "compress_above": 10, "seal_keys": [new_sealing_key()], "near": 100, "versioned": True},
}
VALUES = [None, 0, "", "x" * 5000, [], {"name": "Ada", "team": "red", "n": [1, 2.5, None, True]}]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_values_come_back(either, prefix, options):
    cache = either.cache("c", ttl=60, **options)
    for number, value in enumerate(VALUES):
        await cache.set(number, value, tags=["t"] if number % 2 else [])
        for _ in range(2):
            assert await cache.get(number, "none") == value
            assert await cache.get_or_set(number, lambda: pytest.fail("loaded")) == value
        assert await cache.get_or_set(f"loaded {number}", lambda value=value: value) == value
        assert await cache.get(f"loaded {number}", "none") == value
    assert await cache.get_many(range(len(VALUES))) == dict(enumerate(VALUES))
    assert not await cache.add(0, 5)
    assert await cache.exists(0)
    assert 59 < await cache.ttl(0) <= 60
    raw = await either.execute("GET", f"{prefix}c:3")
    assert (len(raw) < 1000) == ("compress_above" in options)
    assert (b"xxxx" in raw) == ("compress_above" not in options and "seal_keys" not in options)
    assert cache.stats().errors == 0


async def test_msgpack_keeps_bytes(either):
    cache = either.cache("c", ttl=60, codec="msgpack")
    await cache.set("k", b"\x00\xff")
    assert await cache.get("k") == b"\x00\xff"


async def test_what_is_sealed_cannot_be_read_or_moved(either, prefix):
    cache = either.cache("c", ttl=60, seal_keys=[new_sealing_key()])
    await cache.set("k", "a secret")
    raw = await either.execute("GET", f"{prefix}c:k")
    assert b"secret" not in raw
    await either.execute("SET", f"{prefix}c:elsewhere", raw)
    await either.execute("SET", f"{prefix}c:k", raw[:-1] + bytes([raw[-1] ^ 1]))
    assert await cache.get_many(["k", "elsewhere"]) == {}
    assert cache.stats().errors == 2


async def test_keys_are_rotated(either):
    old, new = new_sealing_key(), new_sealing_key()
    before, both, after = (either.cache("c", ttl=60, seal_keys=keys) for keys in ([old], [old, new], [new]))
    await before.set("k", 1)
    assert await both.get("k") == 1
    assert await after.get("k") is None
    await both.set("k", 2)
    assert await after.get("k") == 2
    assert await before.get("k") is None


async def test_another_codec_is_a_reported_miss_and_replaced(make_either, url, prefix):
    events = []
    bay = make_either(url, prefix=prefix, on_event=events.append)
    caches = [
        bay.cache("c", ttl=60, **options) for options in ({}, *(OPTIONS[name] for name in ("msgpack", "compressed", "sealed", "all")), {})
    ]
    caches.append(bay.cache("c", ttl=60, type=list[int]))
    for number, cache in enumerate(caches[1:], 1):
        await caches[number - 1].set("k", "before")
        events.clear()
        assert await cache.get("k") is None
        assert await cache.get_many(["k"]) == {}
        assert [type(event) for event in events] == [Undecodable] * 2
        assert await cache.get_or_set("k", lambda: [1]) == [1]
        assert await cache.get("k") == [1]


async def test_a_value_that_is_too_large_is_refused(either):
    cache = either.cache("c", ttl=60, max_bytes=100, near=10)
    await cache.set("k", "x" * 98)
    assert await cache.get("k") == "x" * 98
    for write in (lambda: cache.set("k", "x" * 99), lambda: cache.add("l", "x" * 99), lambda: cache.get_or_set("l", lambda: "x" * 99)):
        with pytest.raises(EncodeError, match="max_bytes"):
            await write()
    assert await cache.get_many(["k", "l"]) == {"k": "x" * 98}
