"""The demo's limits: a count for each route and address, a stricter one for logins by account and by address, and all of it on /stats."""

import asyncio
import re

import pytest

from forebay.demo.database import EXAMPLE_PASSWORD

ADA = {"email": "ada.lovelace@example.org", "password": EXAMPLE_PASSWORD}
WRONG = {**ADA, "password": "a guess that is wrong"}


@pytest.fixture
def database(tmp_path):
    """One kind of database is enough here: the limits do not know it."""
    return f"sqlite:///{tmp_path}/users.sqlite"


async def test_every_answer_tells_how_often_its_route_may_be_asked(api):
    read, write = await api.get("/users/1"), await api.post("/cache/warm")
    assert read.headers["ratelimit-policy"] == '"reads-1s";q=100;w=1, "reads-60s";q=3000;w=60'
    assert write.headers["ratelimit-policy"].startswith('"writes-1s";q=50;w=1')
    asked = await asyncio.gather(*(api.get(path) for path in ("/users/2", "/users/3", "/healthz")))  # at once: room comes back soon
    left = [int(re.search(r'"reads-60s";r=(\d+)', answer.headers["ratelimit"])[1]) for answer in asked]
    assert abs(left[0] - left[1]) == 1, "a route has one count, whatever its parameters"
    assert left[2] == 2999, "and each route its own"


async def test_guessing_a_password_ends_with_429_however_the_address_is_written(api):
    for attempt in range(10):
        email = ADA["email"].upper() if attempt % 2 else f" {ADA['email']}"
        answer = await api.post("/login", {**WRONG, "email": email.strip()})
        assert answer.status_code == 401, attempt
    refused = await api.post("/login", WRONG)
    assert (refused.status_code, refused.json()) == (429, {"error": "rate limit exceeded"})
    assert '"login-account";r=0' in refused.headers["ratelimit"]
    assert 0 < int(refused.headers["retry-after"]) <= 6
    assert (await api.post("/login", ADA)).status_code == 429, "also for the right password: nobody learns that it is right"
    grace = {"email": "grace.hopper@example.org", "password": EXAMPLE_PASSWORD}
    assert (await api.post("/login", grace)).status_code == 200, "other accounts are not locked out"
    limits = (await api.get("/stats")).json()["limits"]
    assert limits["login-account"]["refused"] == 2
    assert limits["login-account"]["allowed"] == 11
    assert set(limits) == {"reads", "writes", "login-address", "login-account"}


async def test_who_knows_the_password_is_not_limited_by_having_used_it(api):
    for _ in range(12):
        assert (await api.post("/login", ADA)).status_code == 200


async def test_many_accounts_from_one_address_are_limited_too(api):
    answers = await asyncio.gather(*(api.post("/login", {"email": f"u{n}@example.org", "password": "x" * 12}) for n in range(34)))
    assert sorted(answer.status_code for answer in answers) == [401] * 30 + [429] * 4
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert '"login-address";r=0' in refused.headers["ratelimit"]


async def test_the_page_says_when_there_is_another_try(api):
    for _ in range(10):
        await api.post("/login", WRONG)
    page = await api.get("/account")
    csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)[1]
    refused = await api.client.post("/account/login", data={"email": ADA["email"], "password": EXAMPLE_PASSWORD, "csrf": csrf})
    assert refused.status_code == 429
    assert refused.headers["content-type"].startswith("text/html")
    assert re.search(r"There is another try in \d seconds", refused.text)


async def test_with_redis_away_logins_are_limited_by_the_process(opener, tmp_path):
    async with opener("redis://127.0.0.1:1/0", f"sqlite:///{tmp_path}/users.sqlite") as api:
        statuses = [(await api.post("/login", WRONG)).status_code for _ in range(12)]
        assert (await api.get("/users/1")).status_code == 200
    assert statuses[10:] == [429, 429]
    assert 429 not in statuses[:10]
