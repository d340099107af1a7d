"""Health, numbers, warming, the start of a database, and life without Redis or without the database: each really stopped."""

import asyncio
import socket

import pytest

from forebay import EmbeddedServer
from forebay.demo.database import open_database, prepare
from forebay.demo.settings import database_url

ADA = {"email": "ada@example.org", "name": "Ada"}


async def test_all_is_well(api):
    health = await api.get("/healthz")
    assert health.status_code == 200
    body = health.json()
    latency = body.pop("latency_ms")
    assert body == {"status": "ok", "database": "up", "cache": "up"}
    assert set(latency) == {"database", "cache"}
    assert all(0 < took < 2000 for took in latency.values())


async def test_numbers_name_the_hit_rate_of_each_namespace(api):
    for _ in range(4):
        await api.get("/users/1")
    numbers = (await api.get("/stats")).json()
    quiet = {"load_errors": 0, "refused_fills": 0, "errors": 0, "stale": 0}
    assert numbers["caches"]["user"] == {"hits": 3, "near_hits": 2, "misses": 1, "loads": 1, "hit_rate": 0.75, **quiet}
    assert numbers["wire"]["connections"] == 1
    assert numbers["reported"] == {}


async def test_warming_caches_those_with_the_most_posts_in_one_query(api, prefix):
    for _ in range(9):
        await api.post("/users/12/posts", {"title": "t", "body": "b"})
    api.asked()
    warmed = await api.post("/cache/warm", {"limit": 2})
    assert (warmed.status_code, warmed.json()) == (200, {"warmed": 2})
    assert len(api.asked()) == 1
    assert await api.bay.execute("EXISTS", f"{prefix}user:12", f"{prefix}user:1") == 2
    assert await api.bay.execute("EXISTS", f"{prefix}user:2", f"{prefix}user:3") == 0
    answer = await api.get("/users/12")
    assert (answer.headers["X-Cache"], answer.json()["name"]) == ("HIT", "Margaret Hamilton")
    assert (await api.post("/cache/warm")).json() == {"warmed": 12}
    assert (await api.get("/users/7")).headers["X-Cache"] == "HIT"
    assert await api.bay.execute("PTTL", f"{prefix}user:7") > 800_000


@pytest.mark.parametrize("body", [{"limit": 0}, {"limit": 10_001}, {"limit": "many"}, {"limits": 1}])
async def test_a_limit_outside_the_range_is_422(api, body):
    assert (await api.post("/cache/warm", body)).status_code == 422


async def test_the_api_describes_itself(api):
    assert (await api.get("/docs")).status_code == 200
    assert (await api.get("/")).headers["Location"] == "/docs"
    paths = (await api.get("/openapi.json")).json()["paths"]
    operations = {(method, path): entry for path, methods in paths.items() for method, entry in methods.items()}
    assert set(operations) == {
        ("post", "/users"),
        ("get", "/users/{user_id}"),
        ("put", "/users/{user_id}"),
        ("delete", "/users/{user_id}"),
        ("get", "/users/{user_id}/posts"),
        ("post", "/users/{user_id}/posts"),
        ("post", "/cache/warm"),
        ("get", "/stats"),
        ("get", "/healthz"),
        ("post", "/login"),
        ("post", "/logout"),
        ("get", "/me"),
        ("post", "/me/password"),
        ("get", "/me/sessions"),
        ("delete", "/me/sessions/{handle}"),
        ("post", "/me/logout-everywhere"),
    }
    assert all(" " in entry["summary"] for entry in operations.values())


async def test_several_starts_at_once_create_the_examples_once(database):
    engines = [open_database(database_url(database)) for _ in range(4)]
    try:
        created = await asyncio.gather(*(prepare(engine, "hash") for engine in engines))
        assert sorted(created) == [False, False, False, True]
        async with engines[0].connect() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*), min(id), max(id) FROM users")).one() == (12, 1, 12)
    finally:
        for engine in engines:
            await engine.dispose()


async def test_a_second_start_keeps_what_is_there(url, database, prefix, opener):
    async with opener(url, database, prefix) as first:
        await first.put("/users/1", ADA)
        await first.delete("/users/2")
    async with opener(url, database, prefix) as second:
        assert (await second.get("/users/1")).json()["name"] == "Ada"
        assert (await second.get("/users/2")).status_code == 404
        assert (await second.post("/users", {**ADA, "email": "new@example.org"})).json()["id"] == 13


async def test_a_server_that_outlived_an_earlier_database_does_not_lend_its_users(url, database, prefix, opener, tmp_path):
    async with opener(url, f"sqlite:///{tmp_path}/earlier.sqlite", prefix) as earlier:
        await earlier.put("/users/1", ADA)
        assert (await earlier.get("/users/1")).json()["name"] == "Ada"
    async with opener(url, database, prefix) as later:
        assert (await later.get("/users/1")).json()["name"] == "Ada Lovelace"


async def without_redis(api):
    """Every route answers with the cache away."""
    for _ in range(2):
        read = await api.get("/users/1")
        assert (read.status_code, read.headers["X-Cache"]) == (200, "MISS")
        posts = await api.get("/users/1/posts")
        assert (posts.status_code, posts.headers["X-Cache"]) == (200, "MISS")
        assert (await api.get("/users/77")).headers["X-Cache"] == "MISS"
    assert {answer.headers["X-Cache"] for answer in await api.at_once("/users/2", 10)} == {"MISS"}
    created = await api.post("/users", ADA)
    assert created.status_code == 201
    path = created.headers["Location"]
    assert (await api.get(path)).json() == created.json()
    changed = await api.put(path, {**ADA, "name": "Countess"})
    assert (changed.status_code, changed.headers["X-Cache"]) == (200, "INVALIDATION-FAILED")
    assert (await api.get(path)).json()["name"] == "Countess"
    post = await api.post(f"{path}/posts", {"title": "t", "body": "b"})
    assert (post.status_code, post.headers["X-Cache"]) == (201, "INVALIDATION-FAILED")
    assert len((await api.get(f"{path}/posts")).json()) == 1
    gone = await api.delete(path)
    assert (gone.status_code, gone.headers["X-Cache"]) == (204, "INVALIDATION-FAILED")
    assert (await api.get(path)).status_code == 404
    assert (await api.post("/cache/warm")).status_code == 503
    health = await api.get("/healthz")
    assert health.status_code == 200
    body = health.json()
    assert body["latency_ms"].pop("database") > 0
    assert body == {"status": "ok", "database": "up", "cache": "down", "latency_ms": {"cache": None}}
    assert (await api.get("/stats")).json()["caches"]["user"]["hits"] == 0


async def test_redis_stops_and_comes_back(database, opener):
    server = EmbeddedServer(port=0)
    try:
        async with opener(server.url, database) as api:
            port = server.address().port
            await asyncio.to_thread(server.stop)
            await without_redis(api)
            server = EmbeddedServer(port=port)
            await asyncio.to_thread(server.address)
            async with asyncio.timeout(20):
                while (await api.get("/healthz")).json()["cache"] != "up":
                    await asyncio.sleep(0.05)
            await api.get("/users/1")
            assert (await api.get("/users/1")).headers["X-Cache"] == "HIT"
            assert (await api.put("/users/1", ADA)).headers["X-Cache"] == "INVALIDATED"
    finally:
        server.stop()


async def test_redis_is_away_from_the_start(database, opener):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # and never listens: connections are refused, and nobody else gets the port
        async with opener(f"redis://127.0.0.1:{reserved.getsockname()[1]}", database) as api:
            await without_redis(api)


async def test_without_the_database_what_is_cached_is_still_served(url, prefix, opener, own_postgresql):
    async with opener(url, own_postgresql.url(), prefix) as api:
        await api.get("/users/1")
        await asyncio.to_thread(own_postgresql.stop)
        health = await api.get("/healthz")
        assert health.status_code == 503
        body = health.json()
        assert body["latency_ms"].pop("cache") > 0
        assert body == {"status": "unavailable", "database": "down", "cache": "up", "latency_ms": {"database": None}}
        cached = await api.get("/users/1")
        assert (cached.status_code, cached.headers["X-Cache"]) == (200, "HIT")
        assert (await api.get("/users/2")).status_code == 503
        assert (await api.put("/users/1", ADA)).status_code == 503
        await asyncio.to_thread(own_postgresql.start)
        assert (await api.get("/healthz")).status_code == 200
        assert (await api.put("/users/1", ADA)).status_code == 200
        assert (await api.get("/users/1")).json()["name"] == "Ada"
