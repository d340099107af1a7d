"""Sessions behind ASGI: who gets a cookie, what is stored when, and what a response may be kept by."""

import asyncio
import json
from typing import Annotated

import httpx
import pytest
from asgiref.testing import ApplicationCommunicator
from fastapi import Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from forebay import AsyncForebay, EmbeddedServer, Session, SettingsError, UsageError
from forebay.web.asgi import SessionMiddleware
from forebay.web.cookie import Cookie
from forebay.web.fastapi import current_session, require_fresh, require_session, session_of, session_required

Current = Annotated[Session, Depends(current_session)]


def application(bay, **options):
    """An application with a route for everything that can be done to a session."""
    app = FastAPI()
    sessions = bay.sessions()
    app.add_middleware(SessionMiddleware, sessions=sessions, **options)
    app.state.sessions = sessions

    @app.get("/plain")
    async def plain():
        return {}

    @app.get("/read")
    async def read(session: Current):
        return dict(session)

    @app.get("/glance/{how}")
    async def glance(session: Current, how: str):
        return {"in": lambda: "a" in session, "len": lambda: len(session), "iter": lambda: list(session)}[how]()

    @app.post("/put/{name}/{value}")
    async def put(session: Current, name: str, value: str):
        session[name] = value
        return {}

    @app.post("/login/{user}")
    async def login(request: Request, user: str, remember: bool = False):
        await session_of(request).login(user, remember_me=remember)
        return {"user": request.session.current.user_id}

    @app.post("/logout")
    async def logout(request: Request):
        await session_of(request).logout()

    @app.post("/rotate")
    async def rotate(request: Request):
        await session_of(request).rotate()

    @app.get("/me")
    async def me(session: Annotated[Session, Depends(require_session)]):
        return {"user": session.user_id}

    @app.get("/sudo")
    async def sudo(session: Annotated[Session, Depends(require_fresh("1h"))]):
        return {"user": session.user_id}

    @app.get("/decorated")
    @session_required
    async def decorated(request: Request):
        return {"user": request.session.current.user_id}

    @app.get("/too-early")
    async def too_early(request: Request):
        return {"a": request.session["a"]}

    @app.get("/cached")
    async def cached(session: Current):
        session["seen"] = True
        return JSONResponse(
            {},
            headers={"Cache-Control": "public, max-age=600", "Vary": "Accept"}
            | {"CDN-Cache-Control": "max-age=900", "Surrogate-Control": "max-age=9"},
        )

    return app


class Browser:
    """An httpx client that keeps cookies; ``https`` and ``http`` are two places."""

    def __init__(self, app, scheme="https"):
        self.app = app
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app, client=("203.0.113.9", 1)), base_url=f"{scheme}://shop.test")

    async def __call__(self, method, path, **options):
        return await self.client.request(method, path, **options)

    @property
    def cookie(self):
        return next(iter(self.client.cookies.values()), None)


@pytest.fixture
async def browser(bay):
    browser = Browser(application(bay))
    yield browser
    await browser.client.aclose()


async def stored(bay, prefix):
    return await bay.execute("KEYS", f"{prefix}*")


async def test_visitors_who_store_nothing_leave_nothing(browser, bay, prefix):
    """Twenty-one visits without a cookie once made twenty-one sessions."""
    sent = bay.stats().wire.bytes_sent
    for path in ("/plain", "/read", "/glance/in", "/me") * 5:
        response = await browser("GET", path)
        assert "set-cookie" not in response.headers
    assert bay.stats().wire.bytes_sent == sent
    assert await stored(bay, prefix) == []


async def test_what_is_put_in_is_stored_and_comes_back(browser):
    response = await browser("POST", "/put/a/1")
    (cookie,) = response.headers.get_list("set-cookie")
    name, _, rest = cookie.partition("=")
    assert name == "__Host-session_id"
    assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} == {part.strip() for part in rest.split(";")[1:]}
    assert response.headers["cache-control"] == "no-store"
    again = await browser("GET", "/read")
    assert again.json() == {"a": "1"}
    assert "set-cookie" not in again.headers


async def test_plain_http_has_a_plain_name(bay):
    browser = Browser(application(bay), "http")
    cookie = (await browser("POST", "/put/a/1")).headers["set-cookie"]
    assert cookie.startswith("session_id=")
    assert "Secure" not in cookie
    assert (await browser("GET", "/read")).json() == {"a": "1"}


@pytest.mark.parametrize("path", ["/read", "/glance/in", "/glance/len", "/glance/iter", "/me", "/sudo"])
async def test_whatever_looks_at_the_session_varies(browser, path):
    """CVE-2023-30861, CVE-2026-27205: a cache served one user's page to another."""
    assert "cookie" in (await browser("GET", path)).headers.get("vary", "").lower()
    await browser("POST", "/put/a/1")
    assert "cookie" in (await browser("GET", path)).headers["vary"].lower()
    assert "vary" not in (await browser("GET", "/plain")).headers


async def test_a_response_that_sets_a_cookie_is_kept_by_no_cache(browser):
    """CVE-2026-48588: a cached Set-Cookie."""
    first = await browser("GET", "/cached")
    assert first.headers.get_list("cache-control") == ["no-store"]
    assert first.headers["vary"] == "Accept, Cookie"
    assert "cdn-cache-control" not in first.headers
    assert "surrogate-control" not in first.headers
    second = await browser("GET", "/cached")
    assert second.headers.get_list("cache-control") == ["public, max-age=600"]
    assert second.headers["cdn-cache-control"] == "max-age=900"


async def test_what_only_prolongs_a_session_sets_no_cookie_and_varies(bay):
    """CVE-2026-35192: a cache kept the Set-Cookie with which a session was merely refreshed."""
    browser = Browser(application(bay, cookie=Cookie(persistent=True)))
    cookie = (await browser("POST", "/put/a/1")).headers["set-cookie"]
    assert "Max-Age=431" in cookie, "it stays in the browser until the absolute end: prolonging needs no other"
    session = await browser.app.state.sessions.load(browser.cookie)
    name = f"{bay.prefix}session:{{{session.id[:32]}}}:{session.token.digest}"
    await bay.execute("HINCRBY", name, "#s", -120_000)
    for path in ("/read", "/glance/len"):
        response = await browser("GET", path)
        assert "set-cookie" not in response.headers
        assert response.headers["vary"] == "Cookie"
    assert int(await bay.execute("HGET", name, "#s")) >= session.record.seen, "it was prolonged"
    await browser.client.aclose()


async def test_a_login_changes_the_id_and_a_logout_clears_it(browser, bay, prefix):
    await browser("POST", "/put/cart/full")
    visitor = browser.cookie
    assert (await browser("POST", "/login/7")).json() == {"user": "7"}
    user = browser.cookie
    assert user != visitor
    assert (await browser("GET", "/me")).json() == {"user": "7"}
    assert (await browser("GET", "/read")).json() == {"cart": "full"}
    browser.client.cookies.clear()
    browser.client.cookies.set("__Host-session_id", visitor, domain="shop.test")
    assert (await browser("GET", "/me")).status_code == 401
    browser.client.cookies.clear()
    browser.client.cookies.set("__Host-session_id", user, domain="shop.test")
    cleared = (await browser("POST", "/logout")).headers["set-cookie"]
    assert cleared.startswith("__Host-session_id=;")
    assert "Max-Age=0" in cleared
    with pytest.raises(LookupError):
        await browser.app.state.sessions.load(user)


async def test_guards_answer_401(browser):
    for path in ("/me", "/sudo", "/decorated"):
        response = await browser("GET", path)
        assert (response.status_code, response.json()) == (401, {"error": "authentication required"})
    await browser("POST", "/login/7")
    for path in ("/me", "/sudo", "/decorated"):
        assert (await browser("GET", path)).json() == {"user": "7"}


async def test_what_needs_fresh_proof_is_refused_later(browser):
    await browser("POST", "/login/7")
    sessions = browser.app.state.sessions
    session = await sessions.load(browser.cookie)
    session._write("~proved", session._own("~proved", 0) - 3_601_000)
    await sessions.save(session)
    response = await browser("GET", "/sudo")
    assert (response.status_code, response.json()) == (401, {"error": "fresh authentication required"})
    assert (await browser("GET", "/me")).status_code == 200
    await browser("POST", "/login/7")
    assert (await browser("GET", "/sudo")).status_code == 200


async def test_remembered_users_have_a_cookie_that_lasts(browser):
    cookie = (await browser("POST", "/login/7?remember=true")).headers["set-cookie"]
    age = int(next(part for part in cookie.split("; ") if part.startswith("Max-Age=")).removeprefix("Max-Age="))
    assert 29 * 86400 < age <= 30 * 86400
    assert "Max-Age" not in (await browser("POST", "/login/7")).headers["set-cookie"]


async def test_the_device_is_the_client_of_the_login(browser):
    await browser("POST", "/login/7", headers={"User-Agent": "Firefox\x07/1"})
    (info,) = await browser.app.state.sessions.list_for(7)
    assert (info.device.agent, info.device.address) == ("Firefox /1", "203.0.113.9")


async def test_a_dead_cookie_is_no_session_and_is_left_alone(browser):
    """By then the browser may hold the cookie of a newer login; and an invented id is never adopted."""
    await browser("POST", "/put/a/1")
    dead = browser.cookie
    await browser.app.state.sessions.destroy(dead)
    response = await browser("GET", "/read")
    assert (response.json(), "set-cookie" in response.headers) == ({}, False)
    response = await browser("POST", "/put/a/2")
    assert browser.cookie != dead
    assert (await browser("GET", "/read")).json() == {"a": "2"}


@pytest.mark.parametrize("cookie", ["", "x", "a" * 5000, "0" * 32 + "." + "0" * 64, "%00", '"' * 9])
async def test_hostile_cookies_are_visitors(browser, cookie):
    response = await browser("GET", "/read", headers={"Cookie": f"__Host-session_id={cookie}"})
    assert (response.status_code, response.json(), "set-cookie" in response.headers) == (200, {}, False)


async def test_a_session_destroyed_while_the_request_runs_stays_so(bay):
    """The barrier: the request has loaded it, and somebody ends it before the response begins."""
    sessions = bay.sessions()
    loaded, go_on = asyncio.Event(), asyncio.Event()

    async def endpoint(request):
        session = await request.session.load()
        session["late"] = True
        loaded.set()
        await go_on.wait()
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(SessionMiddleware, sessions=sessions)
    session = await sessions.create(1, {"a": 1})
    browser = Browser(app)
    request = asyncio.create_task(browser("GET", "/", headers={"Cookie": f"__Host-session_id={session.id}"}))
    await loaded.wait()
    await sessions.destroy(session.id)
    go_on.set()
    response = await request
    assert (response.status_code, "set-cookie" in response.headers) == (200, False)
    assert await sessions.list_for(1) == []


async def test_a_store_that_is_away_is_503_and_the_cookie_stays(prefix):
    with EmbeddedServer(port=0) as server:
        bay = await AsyncForebay(server.url, prefix=prefix).connect()
        browser, calm = Browser(application(bay)), Browser(application(bay, on_outage="anonymous"))
        for each in (browser, calm):
            await each("POST", "/login/7")
    for path in ("/read", "/me"):
        response = await browser("GET", path)
        assert (response.status_code, response.headers["retry-after"], "set-cookie" in response.headers) == (503, "1", False)
        assert response.json() == {"error": "the session store is away"}
    assert (await browser("GET", "/plain")).status_code == 200
    assert (await calm("GET", "/read")).json() == {}
    assert (await calm("GET", "/me")).status_code == 401
    response = await calm("POST", "/put/a/1")
    assert (response.status_code, "set-cookie" in response.headers) == (200, False)
    browser.client.cookies.clear()
    assert (await browser("POST", "/put/a/1")).status_code == 503
    await bay.close()


async def test_a_session_must_be_loaded_before_it_is_looked_at(browser):
    with pytest.raises(UsageError, match=r"await request.session.load\(\) first"):
        await browser("GET", "/too-early")


async def test_streams_and_background_tasks_save_for_themselves(bay):
    sessions = bay.sessions()

    async def endpoint(request):
        session = await request.session.load()
        session["before"] = 1

        async def pieces():
            yield b"x"
            session["streamed"] = 1
            await request.session.save()

        async def later():
            session["later"] = 1
            await request.session.save()

        return StreamingResponse(pieces(), background=BackgroundTask(later))

    async def careless(request):
        session = await request.session.load()

        async def later():
            session["lost"] = 1

        return PlainTextResponse("x", background=BackgroundTask(later))

    app = Starlette(routes=[Route("/", endpoint), Route("/careless", careless)])
    app.add_middleware(SessionMiddleware, sessions=sessions)
    browser = Browser(app)
    await browser("GET", "/")
    assert dict(await sessions.load(browser.cookie)) == {"before": 1, "streamed": 1, "later": 1}
    with pytest.warns(RuntimeWarning, match="after the response had begun"):
        await browser("GET", "/careless")
    assert "lost" not in await sessions.load(browser.cookie)


async def test_websockets_save_for_themselves(bay):
    sessions = bay.sessions()
    app = FastAPI()
    app.add_middleware(SessionMiddleware, sessions=sessions)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        session = await websocket.session.load()
        session["opened"] = 1
        await websocket.accept()
        session["said"] = await websocket.receive_text()
        await websocket.session.save()
        await websocket.send_json(dict(session))
        await websocket.close()

    scope = {
        "type": "websocket",
        "path": "/ws",
        "raw_path": b"/ws",
        "query_string": b"",
        "headers": [],
        "scheme": "wss",
        "subprotocols": [],
    }
    browser = ApplicationCommunicator(app, scope)
    await browser.send_input({"type": "websocket.connect"})
    accepted = await browser.receive_output(5)
    headers = dict(accepted["headers"])
    cookie = headers[b"set-cookie"].decode().partition(";")[0].partition("=")[2]
    assert headers[b"vary"] == b"Cookie"
    assert dict(await sessions.load(cookie)) == {"opened": 1}
    await browser.send_input({"type": "websocket.receive", "text": "hello"})
    assert json.loads((await browser.receive_output(5))["text"]) == {"opened": 1, "said": "hello"}
    await browser.wait(5)
    assert dict(await sessions.load(cookie)) == {"opened": 1, "said": "hello"}


async def test_the_load_leaves_with_what_else_the_tick_asks(bay):
    """The session's question is on its way before the application has asked for anything."""
    sessions = bay.sessions()
    session = await sessions.create(1)
    await sessions.load(session.id)
    order = []

    async def app(scope, receive, send):
        await asyncio.sleep(0)
        order.append(bay.stats().wire.in_flight)
        await scope["session"].load()
        await PlainTextResponse("x")(scope, receive, send)

    browser = Browser(SessionMiddleware(app, sessions))
    await browser("GET", "/", headers={"Cookie": f"__Host-session_id={session.id}"})
    assert order == [2], "its hash and the epoch"


async def test_parallel_requests_share_nothing(browser):
    await browser("POST", "/put/a/0")
    await asyncio.gather(*(browser("POST", f"/put/k{n}/{n}") for n in range(20)))
    assert (await browser("GET", "/read")).json() == {"a": "0"} | {f"k{n}": str(n) for n in range(20)}


REFUSED = {
    "name": {"name": "a b"},
    "prefix": {"name": "__Host-x"},
    "same_site": {"same_site": "maybe"},
    "none without secure": {"same_site": "none", "secure": False},
    "path": {"path": "x"},
    "injected": {"path": "/; Domain=evil.test"},
    "domain": {"domain": "a;b"},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
def test_cookies_that_browsers_would_refuse(options):
    with pytest.raises(SettingsError):
        Cookie(**options)


def test_the_prefix_follows_the_place():
    assert Cookie().name(https=True) == "__Host-session_id"
    assert Cookie(domain="shop.test").name(https=True) == "__Secure-session_id"
    assert Cookie(path="/a").name(https=True) == "__Secure-session_id"
    assert Cookie(secure=True).name(https=False) == "__Host-session_id"
    assert Cookie(secure=False).name(https=True) == "session_id"


def test_only_the_very_name_is_read():
    headers = [(b"cookie", b"xsession_id=no; Session_id=no"), (b"x", b"session_id=no"), (b"cookie", b'a=b;session_id="yes"; session_id=2')]
    assert Cookie().read(headers, https=False) == "yes"
    assert Cookie().read(headers, https=True) is None


def test_the_outage_policy_is_one_of_two(sync_bay):
    with pytest.raises(SettingsError, match="on_outage"):
        SessionMiddleware(None, None, on_outage="shrug")
