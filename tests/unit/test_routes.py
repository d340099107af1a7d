"""The template of a request's route: finitely many, whatever is asked, and that of the route which answers."""

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute

from forebay.web.routes import NOWHERE, method_of, routes_of, template_of


async def answered(request):
    return PlainTextResponse(request.scope["endpoint"].__name__ if "endpoint" in request.scope else "?")


async def plain(scope, receive, send):
    await PlainTextResponse("plain")(scope, receive, send)


def application():
    app, users, posts = FastAPI(), APIRouter(prefix="/users"), APIRouter(prefix="/{user}/posts")

    @users.get("/{user}")
    async def user(user: str):
        return {}

    @users.put("/{user:path}")
    async def anything(user: str):
        return {}

    @posts.get("/{post:int}")
    async def post(user: str, post: int):
        return {}

    users.include_router(posts)
    app.include_router(users)
    app.include_router(users, prefix="/v2")
    inner = FastAPI()

    @inner.get("/deep/{n}")
    async def deep(n: int):
        return {}

    app.mount("/inner", inner)
    app.mount("/shop/{shop}", Starlette(routes=[Mount("/more", routes=[Route("/{x}", answered)]), WebSocketRoute("/live/{n}", answered)]))
    app.mount("/files", plain)
    app.router.routes.append(Host("{tenant}.shop.test", Starlette(routes=[Route("/t/{x}", answered)])))
    return app


APP = application()
TEMPLATES = {
    ("GET", "/users/1"): "/users/{user}",
    ("HEAD", "/users/1"): "/users/{user}",
    ("GET", "/users/%2e%2e"): "/users/{user}",
    ("PUT", "/users/a/b/c"): "/users/{user:path}",
    ("GET", "/users/1/posts/5"): "/users/{user}/posts/{post:int}",
    ("GET", "/v2/users/1/posts/5"): "/v2/users/{user}/posts/{post:int}",
    ("DELETE", "/users/1"): "/users/{user}",
    ("GET", "/inner/deep/5"): "/inner/deep/{n}",
    ("GET", "/inner/nothing"): "/inner/*",
    ("GET", "/shop/3/more/7"): "/shop/{shop}/more/{x}",
    ("GET", "/files/a/b.txt"): "/files/*",
    ("GET", "/nothing"): NOWHERE,
    ("GET", "//users/1"): NOWHERE,
    ("GET", "/docs"): "/docs",
}


def scope(method, path, host="api.test", kind="http"):
    return {"type": kind, "method": method, "path": path, "root_path": "", "headers": [(b"host", host.encode())]}


@pytest.mark.parametrize(("asked", "template"), TEMPLATES.items(), ids=[" ".join(asked) for asked in TEMPLATES])
def test_the_template_is_that_of_the_route(asked, template):
    assert template_of(routes_of(APP), scope(*asked)) == template


def test_hosts_and_websockets_have_templates_too():
    assert template_of(routes_of(APP), scope("GET", "/t/5", "a.shop.test")) == "{tenant}.shop.test/t/{x}"
    live = scope("GET", "/shop/1/live/9", kind="websocket")
    assert template_of(routes_of(APP), live) == "/shop/{shop}/live/{n}"
    assert (method_of(live), method_of(scope("HEAD", "/")), method_of(scope("PUT", "/"))) == ("WEBSOCKET", "GET", "PUT")


@given(
    path=st.lists(
        st.sampled_from(["users", "v2", "1", "posts", "inner", "deep", "shop", "more", "files", "x", "", "..", "%2F"]), max_size=6
    ),
    method=st.sampled_from(["GET", "PUT", "POST"]),
)
def test_however_many_paths_there_are_the_templates_are_few(path, method):
    known = {
        *TEMPLATES.values(),
        "/shop/{shop}/*",
        "/shop/{shop}/more/*",
        "/openapi.json",
        "/redoc",
        "/docs/oauth2-redirect",
        "/v2/users/{user}",
        "/v2/users/{user:path}",
    }
    assert template_of(routes_of(APP), scope(method, "/" + "/".join(path))) in known


@pytest.mark.parametrize("asked", [asked for asked, template in TEMPLATES.items() if template != NOWHERE], ids=" ".join)
async def test_the_application_takes_the_route_that_was_named(asked):
    """The scope that its endpoint sees has the last part of the template."""
    seen = []

    class Watch:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            route = scope.get("route")
            seen.append(getattr(route, "path", None))

    app = application()
    app.add_middleware(Watch)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        answer = await client.request(asked[0], asked[1])
    assert answer.status_code in (200, 404, 405, 422)
    [path] = seen
    assert path is None or TEMPLATES[asked].endswith(path)


def test_routes_are_found_through_middleware():
    class Wrapped:
        def __init__(self, app):
            self.app = app

    assert routes_of(Wrapped(Wrapped(APP))) == APP.routes
    assert routes_of(plain) is None
    assert routes_of(Wrapped(None)) is None
