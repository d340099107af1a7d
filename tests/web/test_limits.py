"""Limits behind ASGI: nothing escapes them, whatever route, mount or kind of answer; and each answer tells where its client stands."""

import asyncio
import json

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute

from forebay import RateLimited, SettingsError, UsageError
from forebay.web.asgi import SessionMiddleware
from forebay.web.fastapi import session_of
from forebay.web.identity import by_address, by_header, by_user, first_of
from forebay.web.limit_dependency import enforce, require_limit
from forebay.web.limits import Limit, LimitMiddleware
from forebay.web.routes import NOWHERE, routes_of, templates_of
from tests.calling import until
from tests.unit.test_routes import application

BASE = "http://api.test"


def client_of(app, address="192.0.2.1"):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1234)), base_url=BASE)


async def statuses(client, *paths, method="GET"):
    return [(await client.request(method, path)).status_code for path in paths]


async def hello(request):
    return PlainTextResponse("hello")


def small(bay, limits, routes=None, **options):
    routes = [Route("/a/{x}", hello, methods=["GET", "POST"]), Route("/b", hello)] if routes is None else routes
    return Starlette(routes=routes, middleware=[Middleware(LimitMiddleware, limits=limits, **options)])


def with_login():
    """An application where anybody may be anyone."""
    app = FastAPI()

    @app.get("/login/{user}")
    async def login(user: str, request: Request):
        await session_of(request).login(user)
        return {}

    return app


async def test_the_third_of_two_a_minute_is_refused_and_told_when_to_come_back(bay):
    app = small(bay, [bay.limiter("api", "2/minute")])
    async with client_of(app) as client:
        first, second, third = [await client.get("/b") for _ in range(3)]
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert first.headers["ratelimit-policy"] == '"api";q=2;w=60'
    assert first.headers["ratelimit"] == '"api";r=1;t=30'
    assert first.headers["x-ratelimit-limit"] == "2"
    assert first.headers["x-ratelimit-remaining"] == "1"
    assert third.json() == {"error": "rate limit exceeded"}
    assert third.headers["content-type"] == "application/json"
    assert third.headers["ratelimit"] == '"api";r=0;t=30'
    assert third.headers["retry-after"] == "30"
    assert third.headers["cache-control"] == "no-store"
    assert "retry-after" not in second.headers


async def test_paths_of_one_route_are_one_and_routes_and_methods_are_apart(bay):
    async with client_of(small(bay, [bay.limiter("api", "1/minute")])) as client:
        assert await statuses(client, "/a/1", "/a/2", "/a/3?x=1", "/b") == [200, 429, 429, 200]
        assert await statuses(client, "/a/1", "/a/2", method="POST") == [200, 429]
        assert await statuses(client, "/a/9", method="HEAD") == [429], "a head is a get"


async def test_a_shared_limit_counts_all_routes_together(bay):
    async with client_of(small(bay, [Limit(bay.limiter("api", "2/minute"), shared=True)])) as client:
        assert await statuses(client, "/a/1", "/b", "/a/2", "/b", "/nowhere") == [200, 200, 429, 429, 429]


async def test_nothing_escapes_through_mounts_hosts_routers_unknown_paths_or_invented_methods(bay):
    """Every template of an application is asked until it refuses; each has its limit, and paths that no route knows share one."""
    app = application()
    app.add_middleware(LimitMiddleware, limits=[bay.limiter("api", "3/hour")])
    asked = {
        "/users/{user}": ("/users/%d", "api.test"),
        "/v2/users/{user}": ("/v2/users/%d", "api.test"),
        "/users/{user}/posts/{post:int}": ("/users/1/posts/%d", "api.test"),
        "/v2/users/{user}/posts/{post:int}": ("/v2/users/1/posts/%d", "api.test"),
        "/inner/deep/{n}": ("/inner/deep/%d", "api.test"),
        "/inner/*": ("/inner/no/%d", "api.test"),
        "/shop/{shop}/more/{x}": ("/shop/%d/more/1", "api.test"),
        "/shop/{shop}/*": ("/shop/%d/less", "api.test"),
        "/files/*": ("/files/%d", "api.test"),
        NOWHERE: ("/no/%d", "api.test"),
        "{tenant}.shop.test/t/{x}": ("/t/%d", "a.shop.test"),
    }
    assert set(asked) - {NOWHERE} <= templates_of(routes_of(app))
    async with client_of(app) as client:
        for path, host in asked.values():
            answers = [(await client.get(path % n, headers={"host": host})).status_code for n in range(6)]
            assert answers[3:] == [429] * 3, path
            assert 429 not in answers[:3], path
        invented = [(await client.request(f"ODD{n}", "/users/1")).status_code for n in range(6)]
    assert invented[3:] == [429] * 3, "methods that were made up are one method"


async def test_clients_are_told_apart_by_address_and_networks_of_ipv6(bay):
    app = small(bay, [bay.limiter("api", "1/minute")])
    for address, status in (("192.0.2.1", 200), ("192.0.2.2", 200), ("::ffff:192.0.2.1", 429), ("2001:db8::1", 200), ("2001:db8::2", 429)):
        async with client_of(app, address) as client:
            assert await statuses(client, "/b") == [status], address


async def test_a_forged_header_is_no_other_client_and_a_trusted_proxys_is(bay):
    app = small(bay, [bay.limiter("api", "1/minute")], by=by_address(["10.0.0.0/8"]))
    async with client_of(app, "192.0.2.1") as client:
        seen = [(await client.get("/b", headers={"x-forwarded-for": f"198.51.100.{n}"})).status_code for n in range(3)]
    assert seen == [200, 429, 429]
    async with client_of(app, "10.0.0.1") as client:
        seen = [(await client.get("/b", headers={"x-forwarded-for": f"203.0.113.{n}, 198.51.100.7"})).status_code for n in range(3)]
    assert seen == [200, 429, 429], "what stands left of the nearest unknown hop was written by the client"


async def test_who_cannot_be_told_is_one_client_or_none(bay):
    together = small(bay, [Limit(bay.limiter("keys", "1/minute"), by=by_header("x-api-key"))])
    skipped = small(bay, [Limit(bay.limiter("more", "1/minute"), by=by_header("x-api-key"), unknown="skip")])
    async with client_of(together) as client:
        assert await statuses(client, "/b", "/b") == [200, 429]
        assert (await client.get("/b", headers={"x-api-key": "k"})).status_code == 200
    async with client_of(skipped) as client:
        assert await statuses(client, "/b", "/b") == [200, 200]
        assert [(await client.get("/b", headers={"x-api-key": "k"})).status_code for _ in range(2)] == [200, 429]


async def test_several_limits_are_charged_together_or_not_at_all(bay):
    wide, narrow = bay.limiter("wide", "10/minute"), bay.limiter("narrow", "1/minute")
    app = small(bay, [Limit(wide, shared=True), Limit(narrow, routes="/a/{x}", methods="get")])
    async with client_of(app) as client:
        assert await statuses(client, "/a/1", "/a/1", "/a/1", "/b") == [200, 429, 429, 200]
        last = await client.get("/b")
        assert last.headers["x-ratelimit-remaining"] == "7", "what another limit refused was not charged"
        assert (await client.post("/a/1")).status_code == 200


async def test_answers_tell_all_rates(bay):
    async with client_of(small(bay, [bay.limiter("api", "2/second, 100/hour")])) as client:
        answer = await client.get("/b")
    assert answer.headers["ratelimit-policy"] == '"api-1s";q=2;w=1, "api-3600s";q=100;w=3600'
    assert answer.headers["ratelimit"] == '"api-1s";r=1;t=1, "api-3600s";r=99;t=36'


async def test_a_problem_names_the_policies(bay):
    async with client_of(small(bay, [bay.limiter("api", "1/minute")], body="problem")) as client:
        await client.get("/b")
        refused = await client.get("/b")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "rate limit exceeded",
        "status": 429,
        "violated-policies": ["api"],
    }


async def test_headers_can_be_left_out_and_retries_spread(bay):
    async with client_of(small(bay, [bay.limiter("api", "1/minute")], headers=False, retry_jitter="10m")) as client:
        await client.get("/b")
        waits = {int((await client.get("/b")).headers["retry-after"]) for _ in range(20)}
        assert "ratelimit" not in (await client.get("/b")).headers
    assert min(waits) >= 59
    assert max(waits) <= 660
    assert len(waits) > 3


async def test_streams_go_on_and_begin_with_the_headers(bay):
    sent = []

    async def parts():
        for n in range(3):
            sent.append(n)
            yield f"{n};"

    async def stream(request):
        return StreamingResponse(parts())

    async with client_of(small(bay, [bay.limiter("api", "1/minute")], [Route("/s", stream)])) as client:
        answer = await client.get("/s")
        assert answer.text == "0;1;2;"
        assert "ratelimit" in answer.headers
        assert (await client.get("/s")).status_code == 429
    assert sent == [0, 1, 2], "a refused request does not reach the application"


async def spoken(app, path, extensions=None):
    """Ask for a WebSocket; return what the application sent."""
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"x")],
    }
    scope |= {"client": ("192.0.2.1", 1), "server": ("x", 80), "scheme": "ws", "subprotocols": [], "extensions": extensions or {}}
    incoming, sent = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}], []

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_websockets_are_limited_before_they_are_accepted(bay):
    async def live(socket: WebSocket):
        await socket.accept()
        await socket.close()

    app = small(
        bay, [bay.limiter("api", "1/minute")], [WebSocketRoute("/live/{n}", live), Mount("/m", routes=[WebSocketRoute("/{x}", live)])]
    )
    accepted, _ = await spoken(app, "/live/1")
    assert accepted["type"] == "websocket.accept"
    assert dict(accepted["headers"])[b"ratelimit"] == b'"api";r=0;t=60'
    assert await spoken(app, "/live/2") == [{"type": "websocket.close", "code": 1008, "reason": "rate limit exceeded"}]
    start, body = await spoken(app, "/live/3", {"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
    assert dict(start["headers"])[b"retry-after"] == b"60"
    assert json.loads(body["body"]) == {"error": "rate limit exceeded"}
    assert (await spoken(app, "/m/1"))[0]["type"] == "websocket.accept"
    assert (await spoken(app, "/m/2"))[0]["type"] == "websocket.close"


async def test_costs_may_depend_on_the_request(bay):
    limit = Limit(bay.limiter("api", "10/minute"), cost=lambda scope: 5 if scope["method"] == "POST" else 1, shared=True)
    async with client_of(small(bay, [limit])) as client:
        assert await statuses(client, "/a/1", "/a/1", "/a/1", method="POST") == [200, 200, 429]


async def test_users_are_told_apart_by_their_sessions_wherever_they_come_from(bay):
    app = with_login()

    @app.get("/x")
    async def x():
        return {}

    limit = Limit(bay.limiter("api", "1/minute"), by=first_of(by_user, by_address()), routes="/x")
    app.add_middleware(LimitMiddleware, limits=[limit])
    app.add_middleware(SessionMiddleware, sessions=bay.sessions())
    async with client_of(app, "192.0.2.1") as one, client_of(app, "192.0.2.2") as two:
        assert await statuses(one, "/login/ada", "/x", "/x") == [200, 200, 429]
        assert await statuses(two, "/x", "/x", "/login/ada", "/x", "/login/bob", "/x") == [200, 429, 200, 429, 200, 200]


async def test_the_decision_leaves_with_the_question_for_the_session(bay, monkeypatch):
    """Both are in flight at once: one tick asks for the session and for the decision."""
    at_once = []

    async def look(request):
        return PlainTextResponse(str((await session_of(request).load()).user_id))

    app = Starlette(
        routes=[Route("/x", look)],
        middleware=[
            Middleware(SessionMiddleware, sessions=bay.sessions()),
            Middleware(LimitMiddleware, limits=[bay.limiter("api", "100/minute")]),
        ],
    )
    session = await bay.sessions().create("ada")
    async with client_of(app) as client:
        client.cookies.set("session_id", session.id)
        assert (await client.get("/x")).text == "ada"
        transport = next(iter(bay.port.route._nodes()[0]._links.values()))._transport
        monkeypatch.setattr(transport, "write", at_once.append)  # nothing is answered: what is asked first is all that is asked
        asked = asyncio.ensure_future(client.get("/x"))
        await until(lambda: at_once)
        asked.cancel()
    [written] = at_once
    assert [written.count(name) for name in (b"HGETALL", b"GET\r\n", b"Evalsha")] == [1, 1, 1]


async def test_a_dependency_is_answered_by_the_middleware(bay):
    app = FastAPI()
    login = bay.limiter("login", "1/minute")
    account = bay.limiter("account", "2/minute")

    @app.post("/login/{name}", dependencies=[Depends(require_limit(login))])
    async def log_in(name: str):
        return {}

    @app.post("/also/{name}")
    async def also(name: str, request: Request):
        enforce(request, await bay.hit_all([(account, name)]))
        return {}

    app.add_middleware(LimitMiddleware, limits=[Limit(bay.limiter("api", "100/minute"), shared=True)])
    async with client_of(app) as client:
        done = await client.post("/login/ada")
        assert done.headers["ratelimit-policy"] == '"api";q=100;w=60, "login";q=1;w=60'
        refused = await client.post("/login/bob")
        assert (refused.status_code, refused.json()) == (429, {"error": "rate limit exceeded"})
        assert refused.headers["ratelimit"].startswith('"api";r=98')
        assert await statuses(client, "/also/ada", "/also/ada", "/also/ada", "/also/bob", method="POST") == [200, 200, 429, 200]


async def test_a_dependency_without_the_middleware_answers_by_itself(bay):
    app, router = FastAPI(), APIRouter(dependencies=[Depends(require_limit(bay.limiter("api", "2/minute")))])

    @router.get("/x")
    async def x():
        return {}

    @router.get("/y")
    async def y():
        return {}

    app.include_router(router, prefix="/in")
    async with client_of(app) as client:
        assert await statuses(client, "/in/x", "/in/y") == [200, 200]
        refused = await client.get("/in/x")
    assert (refused.status_code, refused.json()) == (429, {"detail": "rate limit exceeded"})
    assert refused.headers["retry-after"] == "30"


async def test_what_is_limited_inside_is_answered_429(bay):
    jobs, slots = bay.limiter("jobs", "1/hour"), bay.limiter("slots", concurrency=1)

    async def work(request):
        async with jobs.limited("all"):
            return PlainTextResponse("done")

    async def hold(request):
        async with slots.slot("all", timeout=0.01):
            return PlainTextResponse("done")

    async def late(request):
        async def parts():
            yield "x"
            raise RateLimited("too late")

        return StreamingResponse(parts())

    app = small(bay, [], [Route("/work", work), Route("/hold", hold), Route("/late", late)])
    async with client_of(app) as client:
        assert await statuses(client, "/work", "/work") == [200, 429]
        assert (await client.get("/work")).headers["retry-after"] in ("3599", "3600")
        async with slots.slot("all"):
            refused = await client.get("/hold")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
        with pytest.raises(RateLimited, match="too late"):
            await client.get("/late")


async def test_with_the_server_away_requests_are_let_through_or_answered_503(make_bay_without_server):
    bay = make_bay_without_server
    for outcome, status in (("open", 200), ("local", 200), ("closed", 503)):
        async with client_of(small(bay, [bay.limiter(outcome, "100/minute", on_outage=outcome)])) as client:
            answer = await client.get("/b")
        assert answer.status_code == status
        assert "ratelimit" not in answer.headers, "of what is not known nothing is said"
    assert answer.json() == {"error": "the rate limit cannot be checked"}
    assert answer.headers["retry-after"] == "1"


@pytest.fixture
async def make_bay_without_server():
    from forebay import AsyncForebay

    async with AsyncForebay("redis://127.0.0.1:1/0", required=False) as bay:
        yield bay


async def test_a_limit_that_would_never_hold_is_refused_at_the_start(bay):
    app = small(bay, [Limit(bay.limiter("api", "1/minute"), routes=["/b", "/c"])])
    with pytest.raises(SettingsError, match="there is no route '/c'; there are /a/{x}, /b"):
        async with client_of(app) as client:
            await client.get("/b")
    wild = small(bay, [Limit(bay.limiter("api", "1/minute"), routes="/a/*")])
    async with client_of(wild) as client:
        assert await statuses(client, "/a/1", "/b", "/a/2", "/b") == [200, 200, 429, 200]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"routes": "users"}, "route 'users' is no template"),
        ({"routes": []}, "routes=\\[\\] holds no text"),
        ({"methods": [1]}, "methods=\\[1\\] holds no text"),
        ({"unknown": "maybe"}, "unknown='maybe' is unknown"),
    ],
)
async def test_a_limit_that_cannot_be_is_refused(bay, options, message):
    with pytest.raises(SettingsError, match=message):
        Limit(bay.limiter("api", "1/minute"), **options)


async def test_what_is_no_limiter_for_asyncio_is_refused(bay, sync_bay):
    with pytest.raises(SettingsError, match="is no limiter for asyncio"):
        Limit(sync_bay.limiter("api", "1/minute"))
    with pytest.raises(SettingsError, match="has no rate, only slots"):
        Limit(bay.limiter("api", concurrency=1))
    with pytest.raises(SettingsError, match="body='xml' is unknown"):
        LimitMiddleware(hello, [], body="xml")


async def test_an_application_that_shows_no_routes_is_one_place(bay):
    async def plain(scope, receive, send):
        await PlainTextResponse("plain")(scope, receive, send)

    async with client_of(LimitMiddleware(plain, [bay.limiter("api", "2/minute")])) as client:
        assert await statuses(client, "/1", "/2", "/3") == [200, 200, 429]


async def test_a_crowd_gets_what_there_is_and_no_more(bay):
    app = Starlette(
        routes=[Host("{t}.test", Starlette(routes=[Route("/{x}", hello)]))],
        middleware=[Middleware(LimitMiddleware, limits=[bay.limiter("api", "10/hour")])],
    )
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.get(f"/{n}") for n in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 40


async def test_a_method_in_another_case_is_the_same_method(bay):
    """Some servers pass on what the client wrote, and some applications take it."""
    app = small(bay, [Limit(bay.limiter("api", "1/minute"), methods="POST")])
    async with client_of(app) as client:
        statuses = []
        for method in ("POST", "post", "Post"):
            scope_method = client.build_request(method, "/a/1")
            scope_method.method = method
            statuses.append((await client.send(scope_method)).status_code)
    assert statuses[0] == 200
    assert 200 not in statuses[1:]


@pytest.mark.parametrize(("methods", "path"), [("HEAD", "/a/1"), ("PURGE", "/p")])
async def test_a_limit_of_any_method_holds(bay, methods, path):
    routes = [Route("/a/{x}", hello), Route("/p", hello, methods=["PURGE"])]
    async with client_of(small(bay, [Limit(bay.limiter("api", "1/minute"), methods=methods)], routes)) as client:
        assert [(await client.request(methods, path)).status_code for _ in range(2)] == [200, 429]


async def test_a_method_that_nothing_takes_is_refused_at_the_start(bay):
    app = small(bay, [Limit(bay.limiter("api", "1/minute"), methods="PSOT")])
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "lifespan.startup"}

    await LimitMiddleware(app.router, [Limit(bay.limiter("api", "1/minute"), methods="PSOT")])({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": "Limit('api', everywhere): nothing takes the method 'PSOT'"}]


@pytest.mark.parametrize("outside", [True, False], ids=["without sessions", "with another's"])
async def test_users_need_the_middleware_of_sessions_around(bay, outside):
    app = small(bay, [Limit(bay.limiter("api", "1/minute"), by=by_user)])
    served = app if outside else SessionMiddleware(app, bay.sessions())
    async with client_of(served) as client:
        if outside:
            with pytest.raises(UsageError, match="around the LimitMiddleware"):
                await client.get("/b")
        else:
            assert (await client.get("/b")).status_code == 200


async def test_a_dependency_tells_users_apart_too(bay):
    app = with_login()

    @app.get("/x", dependencies=[Depends(require_limit(bay.limiter("api", "1/minute"), by=by_user))])
    async def x():
        return {}

    app.add_middleware(SessionMiddleware, sessions=bay.sessions())
    async with client_of(app) as one, client_of(app) as two:
        assert await statuses(one, "/login/ada", "/x", "/x") == [200, 200, 429]
        assert await statuses(two, "/login/bob", "/x") == [200, 200]


async def test_a_cost_that_could_never_pass_is_a_refusal_and_no_error(bay):
    limiter = bay.limiter("api", "3/hour")
    app = small(bay, [Limit(limiter, cost=lambda scope: int(dict(scope["headers"])[b"x-cost"]), shared=True)])
    async with client_of(app) as client:
        asked = [(await client.get("/b", headers={"x-cost": cost})).status_code for cost in ("4", "0", "3", "1")]
    assert asked == [429, 200, 200, 429]
    for cost in (0, 4, 1.5, "x"):
        with pytest.raises(SettingsError, match="cost="):
            Limit(limiter, cost=cost)


async def test_async_functions_and_what_is_none_are_refused(bay):
    async def who(scope):
        return "ada"

    for by in (who, "ip", 5):
        with pytest.raises(SettingsError, match="by"):
            Limit(bay.limiter("api", "1/minute"), by=by)
        with pytest.raises(SettingsError, match="by"):
            LimitMiddleware(hello, bay.limiter("api", "1/minute"), by=by)
    with pytest.raises(SettingsError, match="two limiters are called 'api'"):
        LimitMiddleware(hello, [bay.limiter("api", "1/minute"), bay.limiter("api", "9/hour")])


async def test_another_frameworks_application_is_one_place(bay):
    class Foreign:
        routes = (object(),)

        async def __call__(self, scope, receive, send):
            await PlainTextResponse("foreign")(scope, receive, send)

    async with client_of(LimitMiddleware(Foreign(), bay.limiter("api", "2/minute"))) as client:
        assert await statuses(client, "/1", "/2", "/3") == [200, 200, 429]
    mounted = small(bay, [bay.limiter("more", "1/minute")], [Mount("/f", Foreign())])
    async with client_of(mounted) as client:
        assert await statuses(client, "/f/1", "/f/2") == [200, 429]


async def test_an_application_that_is_served_under_a_path_is_counted_under_both(bay):
    app = FastAPI()
    app.root_path = "/api"

    @app.get("/x")
    async def x():
        return {}

    async with client_of(LimitMiddleware(app, Limit(bay.limiter("api", "1/minute"), routes="/x"))) as client:
        assert await statuses(client, "/x", "/api/x", "/x") == [200, 429, 429]


async def test_two_middlewares_tell_once_and_shadows_are_not_told(bay):
    inner = small(bay, [bay.limiter("inner", "5/minute"), bay.limiter("trial", "1/hour", shadow=True)])
    async with client_of(LimitMiddleware(inner, bay.limiter("outer", "9/minute"))) as client:
        for _ in range(2):
            answer = await client.get("/b")
    assert answer.status_code == 200
    assert answer.headers.get_list("ratelimit-policy") == ['"outer";q=9;w=60, "inner";q=5;w=60']
    assert answer.headers["x-ratelimit-limit"] == "5"
    assert bay.stats().limits["trial"].shadowed == 1


async def test_a_burst_above_the_limit_is_told_as_a_quota_that_takes_longer(bay):
    async with client_of(small(bay, [bay.limiter("api", "10/minute burst 50")])) as client:
        answer = await client.get("/b")
    assert answer.headers["ratelimit-policy"] == '"api";q=50;w=300'
    assert answer.headers["x-ratelimit-limit"] == "50"
    assert answer.headers["x-ratelimit-remaining"] == "49"
