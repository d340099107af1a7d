"""How often each route may be asked by one address, and how often a login may be tried: by account, and by address."""

from __future__ import annotations

from fastapi import Request

from ..bay import AsyncForebay
from ..errors import ForebayError
from ..ratelimit.verdict import Verdict
from ..web.limit_dependency import enforce
from ..web.limits import Limit

__all__ = ["Limits"]


class Limits:
    """The limits of the API. Each route has its own count for each address, and reads may come faster than writes."""

    def __init__(self, bay: AsyncForebay) -> None:
        reads = bay.limiter("reads", "100/second, 3000/minute")
        writes = bay.limiter("writes", "50/second, 600/minute")
        # Logins are guessed at when things are in disorder too: with Redis away each process counts for itself.
        by_address = bay.limiter("login-address", "30/minute", on_outage="local", local_share=1)
        self._by_account = bay.limiter("login-account", "10/minute", on_outage="local", local_share=1)
        self.policies = [
            Limit(reads, methods=["GET", "OPTIONS"]),
            Limit(writes, methods=["POST", "PUT", "PATCH", "DELETE"]),
            Limit(by_address, routes=["/login", "/account/login"], methods="POST", shared=True),
        ]

    async def try_login(self, email: str) -> Verdict:
        """Charge an attempt to log in to the account, whether or not there is one: before the password is looked at."""
        return await self._by_account.hit(email.strip().lower()[:320] or "nobody")

    async def check_login(self, request: Request, email: str) -> None:
        """Answer 429 to *request* if that account was tried too often."""
        enforce(request, await self.try_login(email))

    async def logged_in(self, email: str) -> None:
        """Forget the attempts: somebody knew the password."""
        try:
            await self._by_account.reset(email.strip().lower()[:320] or "nobody")
        except ForebayError:  # then they count for a minute more, and nobody is worse off
            return
