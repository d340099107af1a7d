"""Published faults of other session libraries, each tried on this one through its middleware and by what stands in Redis.

Those that only a response's headers show are in `test_asgi_sessions`: CVE-2023-30861, CVE-2026-27205, CVE-2026-35192, CVE-2026-48588.
"""

import asyncio
import base64
import pickle

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from forebay import SessionNotFound
from forebay.web.asgi import SessionMiddleware

NAME = "__Host-session_id"


class Shop:
    """An application that shows a session and puts into it, and can be made to wait between load and commit."""

    def __init__(self, bay):
        self.sessions = bay.sessions()
        self.loaded, self.go_on = asyncio.Event(), asyncio.Event()
        app = Starlette(
            routes=[Route("/", self.show), Route("/put", self.put), Route("/slow", self.slow), Route("/in/{user}", self.log_in)]
        )
        app.add_middleware(SessionMiddleware, sessions=self.sessions)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://shop.test")

    async def show(self, request):
        session = await request.session.load()
        return JSONResponse({"user": session.user_id, "items": dict(session)})

    async def put(self, request):
        (await request.session.load())["n"] = 1
        return JSONResponse({})

    async def slow(self, request):
        session = await request.session.load()
        session["n"] = 2
        self.loaded.set()
        await self.go_on.wait()
        return JSONResponse({"user": session.user_id})

    async def log_in(self, request):
        await request.session.login(request.path_params["user"])
        return JSONResponse({})

    async def get(self, path="/", cookie=None):
        """Ask with this cookie and no other; return the answer, and the id that it set."""
        self.client.cookies.clear()
        answer = await self.client.get(path, headers={} if cookie is None else {"Cookie": f"{NAME}={cookie}"})
        return answer, answer.cookies.get(NAME)


@pytest.fixture
async def shop(bay):
    made = Shop(bay)
    yield made
    await made.client.aclose()


NOBODY = {"user": None, "items": {}}


@pytest.mark.parametrize("end", ["destroy", "destroy_for", "destroy_handle", "log in"])
async def test_cve_2025_46336_a_request_that_is_under_way_does_not_restore_what_was_ended(shop, bay, prefix, end):
    """Rack::Session wrote the whole session back at the end of a request, and so restored one that was deleted meanwhile."""
    session = await shop.sessions.create(7, {"n": 0})
    under_way = asyncio.create_task(shop.get("/slow", session.id))
    await shop.loaded.wait()
    if end == "destroy":
        assert await shop.sessions.destroy(session.id)
    elif end == "destroy_for":
        await shop.sessions.destroy_for(7)
    elif end == "destroy_handle":
        assert await shop.sessions.destroy_handle(7, session.handle)
    else:
        _, new = await shop.get("/in/8", session.id)
    shop.go_on.set()
    answer, cookie = await under_way
    assert (answer.status_code, cookie) == (200, None)
    assert (await shop.get("/", session.id))[0].json() == NOBODY
    assert await shop.sessions.list_for(7) == []
    if end == "log in":
        assert (await shop.get("/", new))[0].json() == {"user": "8", "items": {"n": 0}}


async def test_cve_2018_1000519_an_id_that_the_client_invented_is_never_adopted(shop, bay, prefix):
    """aiohttp-session took an unknown id from the cookie and stored the new session under it, so that others could plant one."""
    invented = "1" * 32 + "." + "2" * 64
    for path in ("/put", "/in/7"):
        _, cookie = await shop.get(path, invented)
        assert cookie
        assert cookie[33:] != invented[33:]
        assert cookie[:32] != invented[:32]
        with pytest.raises(SessionNotFound):
            await shop.sessions.load(invented)
    assert (await shop.get("/", invented))[0].json() == NOBODY
    assert [name for name in await bay.execute("KEYS", f"{prefix}*") if b"{" + b"1" * 32 in name] == []


async def test_cve_2018_1000519_an_id_that_was_planted_is_not_the_users_after_the_login(shop):
    """The other half of fixation: the id that somebody else knows ends at the login."""
    _, planted = await shop.get("/put")
    _, users = await shop.get("/in/7", planted)
    assert users != planted
    assert (await shop.get("/", planted))[0].json() == NOBODY
    assert (await shop.get("/", users))[0].json() == {"user": "7", "items": {"n": 1}}


@pytest.mark.parametrize("cookie", ["", " ", '""', "None", "null", "."])
async def test_cve_2015_3982_an_empty_id_is_nobodys_session(shop, bay, prefix, cookie):
    """Django stored what was flushed under an empty id, which a client with an empty cookie then had."""
    _, one = await shop.get("/put", cookie)
    _, two = await shop.get("/put", cookie)
    assert one
    assert two
    assert one != two
    assert (await shop.get("/", cookie))[0].json() == NOBODY
    assert len(await bay.execute("KEYS", f"{prefix}*")) == 2
    with pytest.raises(SessionNotFound):
        await shop.sessions.load(cookie)


async def test_cve_2019_16782_what_stands_in_redis_is_no_cookie(shop, bay, prefix):
    """Rack looked sessions up by the raw id, whose comparison by the database told an attacker by its time how much was right."""
    session = await shop.sessions.create(7, {"n": 1})
    tag, digest, handle = session.id[:32], session.token.digest, session.handle
    for stolen in (digest, f"{tag}.{digest}", f"{tag}.{handle * 2}", f"{{{tag}}}:{digest}", f"{tag}.index", f"{tag}:{digest}"):
        answer, cookie = await shop.get("/", stolen)
        assert (answer.json(), cookie) == (NOBODY, None)
    names = b" ".join(await bay.execute("KEYS", f"{prefix}*")).decode()
    assert digest in names, "the key is found by a digest of all that is secret: one wrong digit changes all of it"
    assert session.id[33:] not in names
    assert (await shop.get("/", session.id))[0].json() == {"user": "7", "items": {"n": 1}}


class Planted:
    """Whoever unpickles it makes the test fail."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("field", ["=n", "~csrf", "~proved", "#v", "#u", "#e", "#d", "!=n", "=more", "junk"])
async def test_a_pickle_in_a_field_is_no_code(shop, bay, field):
    """Sessions of many libraries are pickles, and whoever can write to Redis runs code in every process."""
    session = await shop.sessions.create(7, {"n": 1})
    await bay.execute("HSET", f"{shop.sessions._keys(session.token)[0]}", field, pickle.dumps(Planted()))
    shown = (await shop.get("/", session.id))[0].json()
    if field == "=n":
        assert shown == {"user": "7", "items": {}}
    elif field[0] in "#!":
        assert shown == NOBODY
    else:
        assert shown == {"user": "7", "items": {"n": 1}}


@pytest.mark.parametrize("kind", ["session", "index", "epoch"])
async def test_a_pickle_in_the_place_of_a_key_is_no_code(shop, bay, kind):
    """As Flask-Session, Django and Starsessions stored a whole session: one string."""
    session = await shop.sessions.create(7, {"n": 1})
    name = dict(zip(("session", "index", "epoch"), shop.sessions._keys(session.token), strict=True))[kind]
    await bay.execute("SET", name, pickle.dumps(Planted()), "EX", 60)
    if kind == "session":
        assert (await shop.get("/", session.id))[0].json() == NOBODY
        assert await shop.sessions.list_for(7) == []
    else:
        assert (await shop.get("/", session.id))[0].json() == (NOBODY if kind == "epoch" else {"user": "7", "items": {"n": 1}})


async def test_a_pickle_in_the_cookie_is_no_code(shop, bay, prefix):
    """Bottle and Pyramid once kept sessions as pickles in signed cookies: who knew the key, or a default of it, ran code."""
    planted = pickle.dumps(Planted(), protocol=0)
    for text in (base64.b64encode(planted).decode(), planted.hex(), planted.decode().replace("\n", "%0A")):
        answer, cookie = await shop.get("/", text)
        assert (answer.status_code, answer.json(), cookie) == (200, NOBODY, None)
    assert await bay.execute("KEYS", f"{prefix}*") == []
