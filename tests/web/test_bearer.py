"""Access tokens of requests: RFC 6750's header, its answers, and 503 where it cannot be known."""

from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from forebay import AccessToken, AsyncForebay
from forebay.web.bearer import require_token

KEY = "k" * 64


def client_of(tokens):
    app = FastAPI()

    @app.get("/")
    async def shown(token: Annotated[AccessToken, Depends(require_token(tokens))]) -> dict:
        return {"user": token.user_id, **token.claims}

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://shop")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_a_good_token_lets_in(bay, scheme):
    tokens = bay.tokens(KEY)
    access = (await tokens.issue(42, claims={"role": "admin"})).access_token
    async with client_of(tokens) as client:
        answer = await client.get("/", headers={"authorization": f"{scheme} {access}"})
        assert (answer.status_code, answer.json()) == (200, {"user": "42", "role": "admin"})


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic eDp5", "token"])
async def test_without_a_token_the_scheme_is_named(bay, header):
    async with client_of(bay.tokens(KEY)) as client:
        answer = await client.get("/", headers={} if header is None else {"authorization": header})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_bad_or_revoked_token_is_refused_and_not_repeated(bay):
    tokens = bay.tokens(KEY)
    pair = await tokens.issue(42)
    await tokens.revoke(pair.refresh_token)
    async with client_of(tokens) as client:
        for text in (pair.access_token, pair.access_token[:-3] + "abc", "x"):
            answer = await client.get("/", headers={"authorization": f"Bearer {text}"})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
            assert text not in answer.json()["detail"].split()


async def test_where_it_cannot_be_known_the_answer_is_503(bay, prefix):
    access = (await bay.tokens(KEY).issue(42)).access_token
    async with AsyncForebay("redis://127.0.0.1:1/0", required=False, prefix=prefix) as away, client_of(away.tokens(KEY)) as client:
        answer = await client.get("/", headers={"authorization": f"Bearer {access}"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
