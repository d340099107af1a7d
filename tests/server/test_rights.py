"""Every feature with just the rights that docs/rights.md lists for it, in both colours: nothing is refused, nothing reported."""

import re
from pathlib import Path

import pytest

from forebay import EmbeddedServer, Forebay, ReadFailed, ServerError
from tests.server.test_near import until

PAGE = (Path(__file__).parent.parent.parent / "docs" / "rights.md").read_text()
ROWS = re.findall(r"^\| ([^|]+?) \| `(.*?)` \|$", PAGE, re.MULTILINE)


def rights(*features):
    """The commands of these rows, named by how they begin."""
    found = []
    for feature in ("always", *features):
        [commands] = [words for title, words in ROWS if title.replace("`", "").startswith(feature)]
        found += commands.split()
    return found


async def caches(bay):
    cache = bay.cache("c", ttl="1m")
    await cache.set("a", 1)
    assert await cache.get("a") == 1
    assert await cache.get_or_set("b", lambda: 2) == 2
    assert await cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert await cache.get_or_set_many(["x"], lambda _: {"x": 3}) == {"x": 3}
    await cache.set_many({"y": 1})
    assert await cache.add("z", 1)
    assert await cache.exists("z")
    assert await cache.expire("z", 5)
    assert await cache.ttl("z") <= 5
    assert await cache.delete("a", "b") == 2
    near = bay.cache("n", ttl="1m", near=10)
    for _ in range(3):
        assert await near.get_or_set("a", lambda: 1) == 1
    await near.delete("a")
    assert await near.get("a") is None


async def freshness(bay):
    cache = bay.cache("c", ttl="1m", stale_while_revalidate="1m", stale_if_error="2m", early_refresh=1.0)
    await cache.set("a", "old")
    assert await cache.get_or_set("a", lambda: "new") == "old"
    await cache.mark_stale("a")
    await cache.get_or_set("a", lambda: "new")

    async def refreshed():
        return await cache.get("a") == "new"

    await until(refreshed)


async def tags(bay):
    cache = bay.cache("c", ttl="1m", versioned=True)
    await cache.get_or_set("a", lambda: 1, tags=["t"])
    await cache.invalidate_tags("t")
    assert await cache.get("a") is None
    await cache.set("b", 1)
    await cache.clear()
    assert await cache.get("b") is None


async def clearing(bay):
    cache = bay.cache("c", ttl="1m")
    await cache.set_many({"a": 1, "b": 2})
    assert await cache.delete_matching("a*") == 1
    assert await cache.clear() == 1


async def strict(bay):
    cache = bay.cache("c", ttl="1m", near=10, near_strict=True)
    for _ in range(3):
        assert await cache.get_or_set("a", lambda: 1) == 1
    await cache.delete("a")
    assert await cache.get("a") is None


async def sessions(bay):
    sessions = bay.sessions(max_per_user=5)
    visitor = await sessions.create(None, {"a": 1})
    visitor["b"] = 2
    visitor.put("c", 1, ttl="5m")
    await sessions.save(visitor)
    user = await sessions.regenerate(visitor, user_id=42)
    assert (await sessions.load(user.id))["b"] == 2
    user.record.seen = 0
    assert await sessions.touch(user)
    assert len(await sessions.list_for(42)) == 1
    assert await sessions.destroy_handle(42, user.handle)
    last = await sessions.create(42)
    assert await sessions.destroy_for(42, except_=last.id)
    assert await sessions.destroy(last.id)


async def tokens(bay):
    tokens = bay.tokens("k" * 64)
    pair = await tokens.refresh((await tokens.issue(42)).refresh_token)
    for _ in range(3):
        assert (await tokens.verify(pair.access_token)).user_id == "42"
    await tokens.revoke_access(pair.access_token)
    assert await tokens.revoke_handle(42, pair.handle)
    await tokens.issue(42)
    assert await tokens.revoke_for(42) == 1
    assert await tokens.list_for(42) == []


async def limits(bay):
    for algorithm in ("gcra", "fixed_window", "sliding_window", "sliding_log"):
        limiter = bay.limiter("api", "2/hour, 7/day", algorithm=algorithm)
        for _ in range(2):
            assert (await limiter.hit("ada")).decided_by == "server"
        for _ in range(2):
            assert not (await limiter.hit("ada")).allowed
        await limiter.set_rates("ada", "9/day", "1m")
        assert (await limiter.peek("ada")).limit == 9
        assert (await bay.hit_all([(getattr(limiter, "wrapped", limiter), "ada")])).allowed
        assert await limiter.clear_rates("ada")
        assert await limiter.rates("ada") != ()
        assert await limiter.reset("ada")
    jobs = bay.limiter("jobs", concurrency=1)
    made = getattr(jobs, "wrapped", jobs).slot("ada", timeout=5)
    if hasattr(made, "__aenter__"):
        async with made as slot:
            assert slot.token
    else:
        with made as slot:
            assert slot.token


FEATURES = {
    "limits": (limits, ["limits"]),
    "caches": (caches, ["caches"]),
    "freshness": (freshness, ["caches", "freshness"]),
    "tags": (tags, ["caches", "tags"]),
    "clear": (clearing, ["caches", "clear"]),
    "near_strict": (strict, ["caches", "near_strict"]),
    "sessions": (sessions, ["sessions"]),
    "tokens": (tokens, ["caches", "sessions"]),
}


@pytest.fixture(scope="module")
def own_server():
    with EmbeddedServer(port=0) as running:
        yield running


@pytest.mark.parametrize("feature", FEATURES)
async def test_the_rights_that_are_listed_are_enough(make_either, own_server, prefix, feature):
    work, rows = FEATURES[feature]
    events = []
    with Forebay(own_server.url) as admin:
        known = {name.decode() for name in admin.execute("COMMAND", "LIST")}
        allowed = [f"+{word}" for word in dict.fromkeys(rights(*rows)) if word.partition("|")[0] in known]
        admin.execute("ACL", "SETUSER", "app", "reset", "on", ">word", f"~{prefix}*", "resetchannels", *allowed)
        admin.execute("ACL", "LOG", "RESET")
    url = own_server.url.replace("redis://", "redis://app:word@")
    bay = await make_either(url, prefix=prefix, on_event=events.append).connect()
    await work(bay)
    with Forebay(own_server.url) as admin:
        assert admin.execute("ACL", "LOG") == []
    assert events == []


@pytest.mark.parametrize("on_outage", ["fallback", "raise"])
async def test_a_right_that_is_missing_is_told(make_either, own_server, prefix, on_outage):
    events = []
    with Forebay(own_server.url) as admin:
        admin.execute("ACL", "SETUSER", "poor", "reset", "on", ">word", f"~{prefix}*", "+@all", "-get", "-mget", "-client|setname")
    bay = await make_either(own_server.url.replace("redis://", "redis://poor:word@"), prefix=prefix, on_event=events.append).connect()
    events.clear()
    cache = bay.cache("c", ttl="1m", on_outage=on_outage)
    await cache.set("k", 1)
    if on_outage == "raise":
        for read in (lambda: cache.get("k"), lambda: cache.get_or_set("k", lambda: 2), lambda: cache.get_many(["k"])):
            with pytest.raises(ServerError, match="NOPERM"):
                await read()
        assert events == []
    else:
        assert await cache.get("k") is None
        assert {type(event) for event in events} == {ReadFailed}
        assert await cache.get_or_set("k", lambda: 2) == 2
