"""Every cache operation against a real server, in both colours with the same words."""

import dataclasses
import json
import math

import pytest

from forebay import (
    CacheMiss,
    EncodeError,
    InvalidDuration,
    InvalidKey,
    InvalidNamespace,
    MissingTTL,
    Undecodable,
)


@dataclasses.dataclass
class User:
    id: int
    name: str


@pytest.fixture
def cache(either):
    return either.cache("user", ttl="15m")


async def test_a_value_is_plain_json_under_namespace_and_key(either, cache, prefix):
    await cache.set(42, {"name": "Ada", "n": [1, 2.5, None, True]})
    raw = await either.execute("GET", f"{prefix}user:42")
    assert json.loads(raw) == {"name": "Ada", "n": [1, 2.5, None, True]}
    assert 899 < await cache.ttl(42) <= 900


async def test_json_that_another_service_wrote_reads_back(either, cache, prefix):
    await either.execute("SET", f"{prefix}user:7", ' {"name" : "Gr\\u00e4ce"} ')
    assert await cache.get(7) == {"name": "Gräce"}
    assert await either.cache("user", type=dict[str, str]).get("7") == {"name": "Gräce"}


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}], ids=repr)
async def test_empty_values_are_values(cache, value):
    await cache.set("k", value)
    assert await cache.get("k", "default") == value
    assert await cache.fetch("k") == value
    assert await cache.get_many(["k"]) == {"k": value}
    assert await cache.exists("k") is True
    assert await cache.get_or_set("k", lambda: pytest.fail("loaded")) == value
    assert cache.stats().misses == 0


async def test_a_miss(cache):
    assert await cache.get("k") is None
    assert await cache.get("k", 5) == 5
    assert await cache.get_many(["k", "l"]) == {}
    assert await cache.exists("k") is False
    assert await cache.ttl("k") is None
    assert await cache.expire("k", 5) is False
    assert await cache.expire("k", None) is False
    assert await cache.delete("k") == 0
    with pytest.raises(CacheMiss, match="cache 'user' has no entry for key 'k'") as caught:
        await cache.fetch("k")
    assert (caught.value.namespace, caught.value.key) == ("user", "k")
    assert isinstance(caught.value, KeyError)


async def test_many(cache):
    await cache.set_many({1: "a", "two": "b", 3: None}, ttl=100)
    assert await cache.get_many([1, "two", 3, 4, 1]) == {1: "a", "two": "b", 3: None}
    assert 99 < await cache.ttl("two") <= 100
    await cache.set_many({})
    assert await cache.get_many([]) == {}
    assert cache.stats().hits == 3
    assert cache.stats().misses == 1
    assert cache.stats().hit_rate == 0.75


async def test_add_stores_only_where_nothing_is(cache):
    assert await cache.add("k", 1, ttl=50) is True
    assert await cache.add("k", 2) is False
    assert await cache.get("k") == 1
    assert 49 < await cache.ttl("k") <= 50


async def test_lifetimes(cache):
    await cache.set("k", 1, ttl=None)
    assert await cache.ttl("k") == math.inf
    assert await cache.expire("k", "10m") is True
    assert 599 < await cache.ttl("k") <= 600
    assert await cache.expire("k", None) is True
    assert await cache.expire("k", None) is True
    assert await cache.ttl("k") == math.inf


async def test_an_entry_ends_with_its_lifetime(either, cache, prefix):
    await cache.set("k", 1, ttl=0.001)
    await either.execute("BLPOP", f"{prefix}nothing", "0.01")  # the server's own clock passes the millisecond
    assert await cache.get("k") is None


async def test_for_ever_must_be_spelled_out(either):
    bare = either.cache("bare")
    for write in (
        lambda: bare.set("k", 1),
        lambda: bare.add("k", 1),
        lambda: bare.set_many({"k": 1}),
        lambda: bare.get_or_set("k", lambda: pytest.fail("loaded")),
    ):
        with pytest.raises(MissingTTL, match="'bare' has no ttl.*ttl=None means for ever"):
            await write()
    await bare.set("k", 1, ttl=None)
    assert await bare.ttl("k") == math.inf
    forever = either.cache("forever", ttl=None)
    await forever.set("k", 1)
    assert await forever.ttl("k") == math.inf


@pytest.mark.parametrize("ttl", [0, -1, "soon", math.nan, True])
async def test_a_bad_lifetime_is_refused_before_anything_happens(either, cache, ttl):
    for write in (
        lambda: cache.set("k", 1, ttl=ttl),
        lambda: cache.get_or_set("k", lambda: pytest.fail("loaded"), ttl=ttl),
        lambda: cache.expire("k", ttl),
    ):
        with pytest.raises(InvalidDuration):
            await write()
    with pytest.raises(InvalidDuration):
        either.cache("other", ttl=ttl)
    assert await cache.exists("k") is False


async def test_delete_counts(cache):
    await cache.set_many({"a": 1, "b": 2, "c": 3})
    assert await cache.delete("a", "b", "x") == 2
    assert await cache.delete() == 0
    assert await cache.get_many(["a", "b", "c"]) == {"c": 3}


async def test_anybodys_delete_invalidates(either, cache, prefix):
    await cache.set("k", 1)
    await either.execute("DEL", f"{prefix}user:k")
    assert await cache.get("k") is None


async def test_delete_matching_and_clear_stay_in_their_namespace(either, cache, prefix):
    other = either.cache("users", ttl=60)
    await other.set("1", "other")
    await either.execute("SET", f"{prefix}foreign", "x", "EX", 60)
    await cache.set_many({f"{user}:{part}": part for user in (1, 2, 11) for part in ("posts", "likes")})
    await cache.set("1", "user")
    assert await cache.delete_matching("1:*") == 2
    assert await cache.delete_matching("?1:[lp]*") == 2
    assert await cache.delete_matching("nothing*") == 0
    assert sorted(await cache.get_many(["1", "1:posts", "2:posts", "11:posts"])) == ["1", "2:posts"]
    assert await cache.clear() == 3
    assert await cache.clear() == 0
    assert await other.get("1") == "other"
    assert await either.execute("EXISTS", f"{prefix}foreign") == 1


async def test_delete_matching_goes_through_many_batches(cache):
    await cache.set_many({f"k{number}": number for number in range(3500)})
    assert await cache.delete_matching("k*5") == 350
    assert await cache.clear() == 3150


@pytest.mark.parametrize("special", ["a*b", "a?b", "[ab]", "a\\b", "#clock"])
async def test_keys_that_look_like_patterns_are_plain_keys(either, cache, prefix, special):
    await cache.set_many({special: 1, "axb": 2})
    assert await cache.get(special) == 1
    assert await cache.delete(special) == 1
    assert await cache.get("axb") == 2


async def test_typed_values(either, prefix):
    users = either.cache("typed", type=User, ttl=60)
    await users.set(1, User(1, "Ada"))
    assert await users.get(1) == User(1, "Ada")
    assert await users.get_or_set(2, lambda: {"id": 2, "name": "Bob"}) == User(2, "Bob")
    with pytest.raises(EncodeError):
        await users.set(3, User("x", "y"))
    assert not await users.exists(3)


async def test_what_cannot_be_encoded_is_an_error_before_anything_is_sent(cache):
    with pytest.raises(EncodeError, match="type="):
        await cache.set_many({"good": 1, "bad": (1,)})
    with pytest.raises(EncodeError):
        await cache.add("bad", {1})
    with pytest.raises(EncodeError):
        await cache.get_or_set("bad", lambda: (1, 2))
    assert await cache.get_many(["good", "bad"]) == {}


@pytest.mark.parametrize("stored", [b"{broken", b'{"id": "secret"}', b"", b"\x01\xff"])
async def test_what_cannot_be_decoded_is_a_reported_miss_that_shows_nothing(make_either, url, prefix, stored):
    events = []
    bay = make_either(url, prefix=prefix, on_event=events.append)
    users = bay.cache("user", type=User, ttl=60)
    await bay.execute("SET", f"{prefix}user:1", stored)
    assert await users.get(1) is None
    assert await users.get(1, "nothing") == "nothing"
    assert await users.get_many([1]) == {}
    assert not await users.exists(1)
    with pytest.raises(CacheMiss):
        await users.fetch(1)
    assert await users.get_or_set(1, lambda: User(1, "Ada")) == User(1, "Ada")
    assert await users.get(1) == User(1, "Ada")
    assert {(type(event), event.namespace) for event in events} == {(Undecodable, "user")}
    assert not [event for event in events if "secret" in event.describe()]


async def test_a_key_of_another_kind_is_a_reported_miss_and_replaced_by_get_or_set(either, cache, prefix):
    await either.execute("RPUSH", f"{prefix}user:list", "x")
    assert await cache.get("list") is None
    assert either.stats().reported == {"Undecodable": 1}
    assert await cache.get_or_set("list", lambda: 5) == 5
    assert await cache.get("list") == 5


async def test_bad_keys_never_reach_the_server(cache):
    for call in (cache.get, cache.fetch, cache.exists, cache.ttl, cache.delete):
        with pytest.raises(InvalidKey):
            await call("a\nb")
    with pytest.raises(InvalidKey):
        await cache.get_many(["ok", ""])
    with pytest.raises(InvalidKey):
        await cache.get_or_set(None, lambda: pytest.fail("loaded"))


async def test_a_miss_returns_what_a_hit_would(cache):
    loaded = {"list": [1]}
    first = await cache.get_or_set("k", lambda: loaded)
    second = await cache.get_or_set("k", lambda: pytest.fail("loaded"))
    assert first == second == loaded
    first["list"].append(2)
    assert loaded == {"list": [1]}


async def test_a_loaders_error_is_the_callers_error_and_is_not_stored(cache):
    with pytest.raises(ZeroDivisionError):
        await cache.get_or_set("k", lambda: 1 / 0)
    assert await cache.get_or_set("k", lambda: 7) == 7
    assert (cache.stats().loads, cache.stats().load_errors) == (1, 1)


async def test_get_or_set_takes_a_ttl(cache):
    await cache.get_or_set("k", lambda: 1, ttl=30)
    assert 29 < await cache.ttl("k") <= 30
    await cache.get_or_set("l", lambda: 1)
    assert 899 < await cache.ttl("l") <= 900


async def test_two_caches_of_one_namespace_share_entries_and_counts(either, cache):
    twin = either.cache("user", ttl=60)
    await cache.set("k", 1)
    assert await twin.get("k") == 1
    assert cache.stats().hits == twin.stats().hits == either.stats().caches["user"].hits == 1


async def test_reserved_namespaces(either):
    with pytest.raises(InvalidNamespace, match="reserved"):
        either.cache("session")
    with pytest.raises(ValueError, match="on_outage='ignore'"):
        either.cache("x", on_outage="ignore")


async def test_reprs(either, cache, prefix):
    assert f"'{prefix}user:'" in repr(getattr(cache, "wrapped", cache))
    assert "type=User" in repr(getattr(either.cache("t", type=User), "wrapped", either.cache("t", type=User)))
