"""Logins of the users API: over JSON and over the page, for those who may, and nobody learns who has an account."""

import asyncio
import re

import httpx
import pytest

from forebay.demo.database import EXAMPLE_PASSWORD
from forebay.demo.passwords import Passwords
from forebay.testing import moved_clock

ADA = {"email": "ada.lovelace@example.org", "password": EXAMPLE_PASSWORD}


def another(api):
    """Another browser."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://demo")


async def test_a_login_a_profile_and_a_logout(api):
    assert (await api.get("/me")).json() == {"error": "authentication required"}
    answer = await api.post("/login", ADA)
    assert (answer.status_code, answer.json()) == (200, {"user_id": 1})
    assert answer.headers["cache-control"] == "no-store"
    me = await api.get("/me")
    assert me.json()["user"]["name"] == "Ada Lovelace"
    assert me.headers["vary"] == "Cookie"
    assert (await api.post("/logout")).status_code == 204
    assert "session_id" not in api.client.cookies
    assert (await api.get("/me")).status_code == 401
    assert (await api.post("/logout")).status_code == 204, "a second time is no error"


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada.lovelace@example.org", "wrong"),
        ("nobody@example.org", EXAMPLE_PASSWORD),
        ("", ""),
        ("ADA.LOVELACE@example.org", " " + EXAMPLE_PASSWORD),
    ],
)
async def test_who_is_refused_is_not_told_why(api, prefix, email, password):
    answer = await api.post("/login", {"email": email, "password": password})
    assert (answer.status_code, answer.json()) == (401, {"error": "wrong address or password"})
    assert "set-cookie" not in answer.headers
    assert await api.bay.execute("KEYS", f"{prefix}session:*") == []


async def test_an_unknown_user_costs_one_check_as_a_known_one_does(api, monkeypatch):
    checked = []
    verified = Passwords._verified

    def counted(self, stored, password):
        checked.append(re.match(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$", stored)[0])
        return verified(self, stored, password)

    monkeypatch.setattr(Passwords, "_verified", counted)
    for email in ("ada.lovelace@example.org", "nobody@example.org"):
        api.asked()
        await api.post("/login", {"email": email, "password": "wrong"})
        assert len(api.asked()) == 1
    assert len(checked) == 2
    assert checked[0] == checked[1], "with the same parameters"


async def test_a_login_gives_the_session_another_id(api):
    await api.get("/account")
    before = api.client.cookies["session_id"]
    await api.post("/login", ADA)
    after = api.client.cookies["session_id"]
    assert before != after
    async with another(api) as thief:
        thief.cookies["session_id"] = before
        assert (await thief.get("/me")).status_code == 401


async def test_a_new_user_with_a_password_can_log_in_and_one_without_cannot(api):
    await api.post("/users", {"email": "new@example.org", "name": "New", "password": "correct horse"})
    await api.post("/users", {"email": "other@example.org", "name": "Other"})
    answer = await api.post("/login", {"email": "New@Example.org", "password": "correct horse"})
    assert answer.status_code == 200
    assert "password" not in (await api.get("/me")).text
    for password in ("", "correct horse"):
        assert (await api.post("/login", {"email": "other@example.org", "password": password})).status_code == 401
    short = await api.post("/users", {"email": "x@example.org", "name": "X", "password": "short"})
    assert short.status_code == 422
    assert "short" not in short.text.replace("string_too_short", "")


async def test_devices_are_listed_and_logged_out_one_by_one_and_together(api):
    await api.post("/login", ADA)
    async with another(api) as phone, another(api) as tablet, another(api) as stranger:
        for client in (phone, tablet):
            await client.post("/login", json=ADA, headers={"user-agent": "A phone <b>"})
        await stranger.post("/login", json={**ADA, "email": "grace.hopper@example.org"})
        devices = (await api.get("/me/sessions")).json()
        assert len(devices) == 3
        [here] = [device for device in devices if device["current"]]
        assert {device["agent"] for device in devices if not device["current"]} == {"A phone <b>"}
        ids = [client.cookies["session_id"] for client in (api.client, phone, tablet)]
        assert not any(device["handle"] in each for device in devices for each in ids)

        [theirs] = (await stranger.get("/me/sessions")).json()
        assert (await api.delete(f"/me/sessions/{theirs['handle']}")).status_code == 404, "another user's"
        [phones] = [device for device in (await phone.get("/me/sessions")).json() if device["current"]]
        assert (await api.delete(f"/me/sessions/{phones['handle']}")).status_code == 204
        assert (await phone.get("/me")).status_code == 401
        assert (await tablet.get("/me")).status_code == 200

        assert (await api.post("/me/logout-everywhere?others=true")).status_code == 204
        assert (await tablet.get("/me")).status_code == 401
        assert [device["handle"] for device in (await api.get("/me/sessions")).json()] == [here["handle"]]
        assert (await api.delete(f"/me/sessions/{here['handle']}")).status_code == 204
        assert (await api.get("/me")).status_code == 401

        await api.post("/login", ADA)
        await tablet.post("/login", json=ADA)
        assert (await api.post("/me/logout-everywhere")).status_code == 204
        for client in (api.client, tablet):
            assert (await client.get("/me")).status_code == 401
        assert (await stranger.get("/me")).status_code == 200


async def test_a_password_changes_only_after_a_fresh_login_and_ends_other_sessions(api):
    await api.post("/login", ADA)
    async with another(api) as phone:
        await phone.post("/login", json=ADA)
        with moved_clock(api.bay) as clock:
            await clock.advance("16m")
        stale = await api.post("/me/password", {"password": "another password"})
        assert (stale.status_code, stale.json()) == (401, {"error": "fresh authentication required"})
        await api.post("/login", ADA)
        assert (await api.post("/me/password", {"password": "another password"})).status_code == 204
        assert (await phone.get("/me")).status_code == 401
        assert (await api.get("/me")).status_code == 200
        assert (await phone.post("/login", json=ADA)).status_code == 401
        assert (await phone.post("/login", json={**ADA, "password": "another password"})).status_code == 200


async def test_a_user_who_is_removed_is_logged_out(api):
    await api.post("/login", ADA)
    await api.delete("/users/1")
    assert (await api.get("/me")).status_code == 401
    assert (await api.post("/login", ADA)).status_code == 401


async def test_another_sites_page_can_do_nothing(api):
    await api.post("/login", ADA)
    for origin in ("http://evil", "null", "http://demo.evil"):
        for method, path in (("POST", "/logout"), ("POST", "/me/logout-everywhere"), ("POST", "/account/logout"), ("POST", "/login")):
            answer = await api.client.request(method, path, headers={"origin": origin}, json=ADA)
            assert answer.status_code == 403
    assert (await api.client.post("/me/logout-everywhere?others=true", headers={"origin": "http://demo"})).status_code == 204
    assert (await api.get("/me")).status_code == 200


def csrf_of(page):
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


async def submit(client, path, page, **fields):
    return await client.post(path, data={"csrf": csrf_of(page), **fields}, follow_redirects=True)


async def test_the_page_logs_in_shows_who_one_is_and_logs_out(api):
    page = await api.get("/account")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    wrong = await submit(api.client, "/account/login", page, email=ADA["email"], password="wrong")
    assert "Wrong address or password." in wrong.text
    assert "Wrong address" not in (await api.get("/account")).text, "it is said once"
    before = csrf_of(wrong)
    page = await submit(api.client, "/account/login", wrong, **ADA)
    assert "Ada Lovelace" in page.text
    assert "Welcome." in page.text
    assert csrf_of(page) != before, "who knew the visitor's token knows nothing of the user's"
    async with another(api) as phone:
        login = await phone.get("/account")
        shown = await submit(phone, "/account/login", login, **ADA, remember="1")
        assert shown.text.count("<li>") == 2
        shown = await submit(phone, "/account/logout-everywhere", shown)
        assert "All other devices are logged out." in shown.text
        assert shown.text.count("<li>") == 1
        assert "Log in" in (await api.get("/account")).text
        handle = re.search(r"/account/devices/([0-9a-f]{32})/end", shown.text)[1]
        assert "<h1>Log in</h1>" in (await submit(phone, f"/account/devices/{handle}/end", shown)).text


async def test_a_form_without_its_token_is_refused(api):
    page = await submit(api.client, "/account/login", await api.get("/account"), **ADA)
    handle = re.search(r"/account/devices/([0-9a-f]{32})/end", page.text)[1]
    async with another(api) as other:
        foreign = csrf_of(await other.get("/account"))
    for path in ("/account/logout", "/account/logout-everywhere", f"/account/devices/{handle}/end", "/account/login"):
        for given in ({}, {"csrf": ""}, {"csrf": foreign}, {"csrf": csrf_of(page)[:-1]}):
            answer = await api.client.post(path, data={**given, **ADA})
            assert answer.status_code == 403
    assert (await api.get("/me")).status_code == 200


async def test_what_users_say_is_shown_as_text(api):
    await api.put("/users/1", {"email": "ada@example.org", "name": "<script>alert(1)</script>"})
    headers = {"user-agent": "<img src=x onerror=alert(2)>"}
    page = await api.client.get("/account", headers=headers)
    page = await api.client.post(
        "/account/login",
        data={"csrf": csrf_of(page), "email": "ada@example.org", "password": EXAMPLE_PASSWORD},
        headers=headers,
        follow_redirects=True,
    )
    assert "&lt;script&gt;" in page.text
    assert "&lt;img src=x" in page.text
    assert "<script" not in page.text
    assert "<img" not in page.text


async def test_with_redis_away_a_login_is_503_and_the_users_are_there(opener, database, prefix):
    async with opener("redis://127.0.0.1:1/0", database, prefix) as api:
        answer = await api.post("/login", ADA)
        assert (answer.status_code, answer.json()) == (503, {"error": "the session store is away"})
        api.client.cookies["session_id"] = "0" * 32 + "." + "0" * 64
        for path in ("/me", "/account", "/me/sessions"):
            answer = await api.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "set-cookie" not in answer.headers
        assert (await api.get("/users/1")).status_code == 200


async def test_many_logins_at_once_are_all_answered(api):
    async def login():
        async with another(api) as client:
            return (await client.post("/login", json=ADA)).status_code

    assert await asyncio.gather(*(login() for _ in range(6))) == [200] * 6
