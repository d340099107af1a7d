"""Litestar with the session plugin: the same rules as elsewhere, in its own dependencies and answers."""

import pytest
from litestar import Litestar, Request, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath
from litestar.testing import AsyncTestClient

from forebay import AsyncForebay, Session, Unavailable
from forebay.web.litestar import SessionPlugin, current_session, require_fresh, require_session, session_of


@post("/cart/{item:str}")
async def add(item: FromPath[str], session: NamedDependency[Session]) -> list[str]:
    session.setdefault("cart", []).append(item)
    return session["cart"]


@get("/cart")
async def cart(session: NamedDependency[Session]) -> list[str]:
    return session.get("cart", [])


@get("/plain")
async def plain() -> str:
    return "plain"


@post("/login")
async def login(request: Request) -> None:
    await session_of(request).login(42)


@post("/logout")
async def logout(request: Request) -> None:
    await session_of(request).logout()


@get("/me", dependencies={"user": Provide(require_session)})
async def me(user: NamedDependency[Session]) -> str | None:
    return user.user_id


@get("/fresh", dependencies={"user": Provide(require_fresh("15m"))})
async def fresh(user: NamedDependency[Session]) -> bool:
    return user.is_fresh(900)


@get("/broken")
async def broken() -> None:
    raise Unavailable("another command")


HANDLERS = [add, cart, plain, login, logout, me, fresh, broken]


@pytest.fixture
async def client(bay):
    async with AsyncTestClient(Litestar(HANDLERS, plugins=[SessionPlugin(bay.sessions())])) as client:
        yield client


async def test_a_visitor_costs_nothing_until_something_is_stored(client, bay, prefix):
    answer = await client.get("/plain")
    assert "set-cookie" not in answer.headers
    assert "vary" not in answer.headers
    answer = await client.get("/cart")
    assert answer.json() == []
    assert answer.headers["vary"] == "Cookie"
    assert await bay.execute("KEYS", f"{prefix}*") == []
    answer = await client.post("/cart/apple")
    assert answer.json() == ["apple"]
    assert answer.headers["cache-control"] == "no-store"
    assert (await client.post("/cart/pear")).json() == ["apple", "pear"]
    assert (await client.get("/cart")).json() == ["apple", "pear"]


async def test_who_is_not_logged_in_is_refused(client):
    for path in ("/me", "/fresh"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (401, {"error": "authentication required"})
        assert answer.headers["vary"] == "Cookie"
    await client.post("/cart/apple")
    before = client.cookies["session_id"]
    await client.post("/login")
    assert client.cookies["session_id"] != before
    assert (await client.get("/me")).text == "42"
    assert (await client.get("/fresh")).json() is True
    assert (await client.get("/cart")).json() == ["apple"]
    await client.post("/logout")
    assert (await client.get("/me")).status_code == 401


async def test_with_the_store_away_the_answer_is_503_and_other_errors_are_not(client, prefix):
    async with AsyncForebay("redis://127.0.0.1:1/0", required=False, prefix=prefix) as away:
        application = Litestar(HANDLERS, plugins=[SessionPlugin(away.sessions())])
        async with AsyncTestClient(application) as other:
            other.cookies["session_id"] = "0" * 32 + "." + "0" * 64
            for answer in (await other.get("/me"), await other.get("/cart")):
                assert (answer.status_code, answer.json()) == (503, {"error": "the session store is away"})
                assert answer.headers["retry-after"] == "1"
                assert "set-cookie" not in answer.headers
            del other.cookies["session_id"]
            answer = await other.post("/cart/apple")  # nothing can be stored
            assert answer.status_code == 503
    assert (await client.get("/broken")).status_code == 500


async def test_an_application_has_its_own_names(bay):
    async def mine() -> str:
        return "mine"

    @get("/")
    async def shown(session: NamedDependency[str]) -> str:
        return session

    application = Litestar([shown], plugins=[SessionPlugin(bay.sessions())], dependencies={"session": Provide(mine)})
    async with AsyncTestClient(application) as client:
        assert (await client.get("/")).text == "mine"
    assert current_session.__doc__
