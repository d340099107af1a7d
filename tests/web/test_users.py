"""Every answer of the users API, on both databases."""

import asyncio
import json
from datetime import datetime

import pytest

from forebay.cache.entry import read_entry
from forebay.demo.models import User
from forebay.demo.users import CACHING, Users

ADA = {"email": "ada@example.org", "name": "Ada"}
BOB = {"email": "bob@example.org", "name": "Bob"}


async def test_a_read_misses_then_hits(api, prefix):
    first, second = await api.get("/users/1"), await api.get("/users/1")
    assert (first.status_code, first.headers["X-Cache"]) == (200, "MISS")
    assert (second.status_code, second.headers["X-Cache"]) == (200, "HIT")
    assert first.json() == second.json()
    assert set(first.json()) == {"id", "email", "name", "created_at"}
    assert datetime.fromisoformat(first.json()["created_at"]).utcoffset().total_seconds() == 0
    assert len(api.asked()) == 1
    assert await stored(api, f"{prefix}user:1") == first.json()
    assert 890 < await api.bay.cache("user", type=User | None, **CACHING).ttl(1) <= 900
    assert 4_490_000 < await api.bay.execute("PTTL", f"{prefix}user:1") <= 4_500_000, "and an hour more, should the database be away"


async def stored(api, name):
    """Return what is stored, under its envelope."""
    return json.loads(read_entry(await api.bay.execute("GET", name)).payload)


async def test_what_is_read_often_is_held_near(api):
    answers = [(await api.get("/users/1")).headers["X-Cache"] for _ in range(4)]
    assert answers == ["MISS", "HIT", "NEAR", "NEAR"]
    await api.put("/users/1", ADA)
    assert [(await api.get("/users/1")).headers["X-Cache"] for _ in range(3)] == ["MISS", "HIT", "NEAR"]


async def test_past_its_time_a_value_is_served_while_it_is_refreshed(api):
    await api.get("/users/1")
    api.asked()
    await api.bay.cache("user", type=User | None, **CACHING).mark_stale(1)
    assert (await api.get("/users/1")).headers["X-Cache"] == "STALE"
    async with asyncio.timeout(5):
        while (await api.get("/users/1")).headers["X-Cache"] == "STALE":
            await asyncio.sleep(0.005)
    assert len(api.asked()) == 1


async def test_a_new_user_is_written_through(api, prefix):
    created = await api.post("/users", ADA)
    user_id = created.json()["id"]
    assert created.status_code == 201
    assert created.headers["Location"] == f"/users/{user_id}"
    assert user_id == 13, "the ids go on after the twelve examples"
    assert await stored(api, f"{prefix}user:{user_id}") == created.json()
    api.asked()
    read = await api.get(created.headers["Location"])
    assert (read.headers["X-Cache"], read.json()) == ("HIT", created.json())
    assert api.asked() == []
    await api.bay.execute("DEL", f"{prefix}user:{user_id}")
    assert (await api.get(created.headers["Location"])).json() == created.json(), "the row is the same as what was written through"


async def test_an_unknown_user_is_remembered_briefly_and_visible_once_created(api, prefix):
    first, second = await api.get("/users/13"), await api.get("/users/13")
    assert (first.status_code, first.headers["X-Cache"]) == (404, "MISS")
    assert (second.status_code, second.headers["X-Cache"]) == (404, "HIT")
    assert len(api.asked()) == 1
    assert 0 < await api.bay.cache("user", type=User | None, **CACHING).ttl(13) <= 30
    assert (await api.get("/users/13/posts")).status_code == 404
    assert (await api.post("/users", ADA)).json()["id"] == 13
    assert (await api.get("/users/13")).json()["name"] == "Ada"
    assert (await api.get("/users/13/posts")).json() == []


async def test_a_change_is_seen_at_once(api, prefix):
    before = (await api.get("/users/1")).json()
    changed = await api.put("/users/1", ADA)
    assert (changed.status_code, changed.headers["X-Cache"]) == (200, "INVALIDATED")
    assert changed.json() == {**before, **ADA}
    assert await api.bay.execute("EXISTS", f"{prefix}user:1") == 0
    after = await api.get("/users/1")
    assert (after.headers["X-Cache"], after.json()) == ("MISS", changed.json())


async def test_a_deleted_user_takes_its_posts_along(api, prefix):
    await api.get("/users/1")
    assert len((await api.get("/users/1/posts")).json()) > 1
    await api.get("/users/11/posts")
    gone = await api.delete("/users/1")
    assert (gone.status_code, gone.headers["X-Cache"], gone.content) == (204, "INVALIDATED", b"")
    assert await api.bay.execute("EXISTS", f"{prefix}user:1") == 0
    assert (await api.get("/users/11/posts")).headers["X-Cache"] in ("HIT", "NEAR"), "the tag of user 1 is not that of user 11"
    assert (await api.get("/users/1")).status_code == 404
    assert (await api.get("/users/1/posts")).status_code == 404
    async with api.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM posts WHERE user_id = 1")).scalar() == 0
    assert (await api.delete("/users/1")).status_code == 404


async def test_changes_of_nobody_are_404(api):
    assert (await api.put("/users/99", ADA)).status_code == 404
    assert (await api.delete("/users/99")).status_code == 404
    assert (await api.get("/users/99/posts")).status_code == 404
    assert (await api.post("/users/99/posts", {"title": "t", "body": "b"})).status_code == 404


async def test_an_address_belongs_to_one_user(api):
    assert (await api.post("/users", ADA)).status_code == 201
    assert (await api.post("/users", ADA)).status_code == 409
    assert (await api.put("/users/1", ADA)).status_code == 409
    assert (await api.put("/users/13", {**ADA, "name": "Countess"})).status_code == 200, "one's own address is not taken"


@pytest.mark.parametrize("user_id", ["0", "-1", "9223372036854775808", "x", "1.5", "%00"])
async def test_ids_outside_the_range_are_422(api, user_id):
    assert (await api.get(f"/users/{user_id}")).status_code == 422
    assert (await api.put(f"/users/{user_id}", ADA)).status_code == 422
    assert (await api.delete(f"/users/{user_id}")).status_code == 422
    assert (await api.get(f"/users/{user_id}/posts")).status_code == 422
    assert api.asked() == []


async def test_the_largest_id_is_an_id(api):
    assert (await api.get(f"/users/{2**63 - 1}")).status_code == 404


UNREADABLE = {
    "extra": {**ADA, "id": 7},
    "no name": {"email": "a@b.org"},
    "blank name": {**ADA, "name": " \t "},
    "long name": {**ADA, "name": "x" * 201},
    "NUL in the name": {**ADA, "name": "a\x00b"},
    "a number for a name": {**ADA, "name": 7},
    "no @": {**ADA, "email": "ada.example.org"},
    "two @": {**ADA, "email": "a@b@example.org"},
    "no dot": {**ADA, "email": "ada@example"},
    "space": {**ADA, "email": "a da@example.org"},
    "long address": {**ADA, "email": "a@" + "b" * 250 + ".org"},
    "NUL in the address": {**ADA, "email": "a\x00@example.org"},
    "a lone surrogate": {**ADA, "name": "\ud800"},
    "a list": [ADA],
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_is_no_user_is_422(api, body):
    headers = {"Content-Type": "application/json"}
    for method, path in (("POST", "/users"), ("PUT", "/users/1")):
        refused = await api.client.request(method, path, content=json.dumps(body), headers=headers)
        assert refused.status_code == 422, refused.text
        assert refused.json()["detail"][0]["loc"][0] == "body"
    assert api.asked() == []


async def test_what_is_not_even_json_is_422(api):
    headers = {"Content-Type": "application/json"}
    assert (await api.client.post("/users", content=b"{", headers=headers)).status_code == 422
    assert (await api.client.post("/users", content=b'{"email": NaN, "name": Infinity}', headers=headers)).status_code == 422


@pytest.mark.parametrize("name", ["x" * 200, "Zoë 王小明", "O'Brien; DROP TABLE users--", '{"a": 1}', "*?[x]"])
async def test_any_printable_name_comes_back(api, name):
    created = await api.post("/users", {**ADA, "name": f"  {name} "})
    assert (created.status_code, created.json()["name"]) == (201, name)
    assert (await api.get(created.headers["Location"])).json() == created.json()


async def test_callers_who_miss_together_share_one_query_and_none_claims_a_hit(api):
    answers = await api.at_once("/users/2", 20)
    assert {answer.json()["id"] for answer in answers} == {2}
    assert len(api.asked()) == 1
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS"] * 20
    stats = (await api.get("/stats")).json()["caches"]["user"]
    assert (stats["hits"], stats["misses"], stats["loads"]) == (0, 20, 1)


async def test_a_read_that_loaded_the_old_row_does_not_outlive_the_change(api, monkeypatch):
    loaded, go_on = asyncio.Event(), asyncio.Event()
    load = Users._load

    async def load_slowly(users, user_id):
        row = await load(users, user_id)
        loaded.set()
        await go_on.wait()
        return row

    monkeypatch.setattr(Users, "_load", load_slowly)
    old = asyncio.create_task(api.get("/users/1"))
    await loaded.wait()
    assert (await api.put("/users/1", ADA)).headers["X-Cache"] == "INVALIDATED"
    go_on.set()
    assert (await old).json()["name"] == "Ada Lovelace", "the read began before the change"
    assert (await api.get("/users/1")).json()["name"] == "Ada"


async def test_posts_are_listed_from_the_cache_until_there_is_a_new_one(api, prefix):
    first, second = await api.get("/users/3/posts"), await api.get("/users/3/posts")
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert first.json() == second.json() != []
    assert set(first.json()[0]) == {"id", "user_id", "title", "body", "created_at"}
    assert await stored(api, f"{prefix}user:3:posts") == first.json()
    created = await api.post("/users/3/posts", {"title": "New", "body": "Line 1\nLine 2"})
    assert (created.status_code, created.headers["X-Cache"]) == (201, "INVALIDATED")
    third = await api.get("/users/3/posts")
    assert third.headers["X-Cache"] == "MISS"
    assert third.json() == [*first.json(), created.json()]


@pytest.mark.parametrize(
    "post",
    [
        {"title": "t"},
        {"title": " ", "body": "b"},
        {"title": "t" * 201, "body": "b"},
        {"title": "t", "body": "b" * 10_001},
        {"title": "t", "body": "\x00"},
        {"title": "t", "body": "b", "user_id": 2},
    ],
)
async def test_what_is_no_post_is_422(api, post):
    assert (await api.post("/users/1/posts", post)).status_code == 422


async def test_many_changes_and_reads_at_once_end_with_the_last_change(api):
    async def change(number: int) -> None:
        answer = await api.put(f"/users/{number % 3 + 1}", {"email": f"{number % 3}@example.org", "name": f"Name {number}"})
        assert answer.status_code == 200

    await asyncio.gather(*(change(number) for number in range(15)), *(api.get(f"/users/{number % 3 + 1}") for number in range(45)))
    async with api.engine.connect() as connection:
        stored = dict((await connection.exec_driver_sql("SELECT id, name FROM users WHERE id <= 3")).all())
    assert {number: (await api.get(f"/users/{number}")).json()["name"] for number in (1, 2, 3)} == stored
    assert all(name.startswith("Name ") for name in stored.values())
