"""FastAPI and Starlette: the access token of a request, from its ``Authorization`` header (RFC 6750)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from ..errors import AccessTokenInvalid, Unavailable
from ..tokens.core import AccessToken
from ..tokens.tokens import AsyncTokens
from .asgi import RETRY_AFTER

__all__ = ["require_token"]


def require_token(tokens: AsyncTokens) -> Callable[[HTTPConnection], Awaitable[AccessToken]]:
    """Return a dependency: ``token: Annotated[AccessToken, Depends(require_token(tokens))]``.

    A request without a token that is accepted is answered 401 with ``WWW-Authenticate``; 503 if it cannot be known.
    """

    async def token_of(request: HTTPConnection) -> AccessToken:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise HTTPException(401, "authentication required", {"WWW-Authenticate": "Bearer"})
        try:
            return await tokens.verify(text.strip())
        except AccessTokenInvalid as error:
            raise HTTPException(401, str(error), {"WWW-Authenticate": 'Bearer error="invalid_token"'}) from None
        except Unavailable as error:
            raise HTTPException(503, "it cannot be known whether the token was revoked", {"Retry-After": RETRY_AFTER}) from error

    return token_of
