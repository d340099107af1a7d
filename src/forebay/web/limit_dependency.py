"""FastAPI and Starlette: a limit as a dependency, for what only the route knows: a stricter limit, a cost, the account of a login."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from ..ratelimit.core import LimiterCore
from ..ratelimit.deciding import limited
from ..ratelimit.options import check_plain
from ..ratelimit.verdict import Decision, Verdict
from .identity import Identity, by_address, needs_session
from .limit_headers import answer_to, limit_headers, retry_after
from .limits import Limit, asked_of, check_names, decided, load_session, noted
from .routes import NOWHERE

__all__ = ["enforce", "note", "require_limit"]


def require_limit(*limits: Limit | LimiterCore, by: Identity | None = None) -> Callable[[HTTPConnection], Awaitable[tuple[Verdict, ...]]]:
    """Return a dependency that is answered 429 where one of *limits* refuses: ``dependencies=[Depends(require_limit(limiter))]``.

    A bare limiter counts all routes that have it together. With a `LimitMiddleware` around the application, that answers and tells the
    limits in the headers; without one only the refusal does.

    Args:
        by: who is asking; by default the address of the peer, without trust in any proxy.
    """
    wanted = [limit if isinstance(limit, Limit) else Limit(limit, shared=True) for limit in limits]
    identity = by_address() if by is None else by
    check_plain("by", identity, "a scope")
    check_names(wanted)
    loads = any(needs_session(limit.by or identity) for limit in wanted)

    async def check(request: HTTPConnection) -> tuple[Verdict, ...]:
        if loads:
            await load_session(request.scope)
        place = str(getattr(request.scope.get("route"), "path", NOWHERE))  # without mounts: what is one too many is none too few
        return enforce(request, await decided(asked_of(wanted, request.scope, identity, place)))

    return check


def note(request: HTTPConnection, verdicts: Verdict | Decision | Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Tell *verdicts* with the answer to *request*, if there is a `LimitMiddleware`; whether they refuse is for the caller to heed."""
    found = (verdicts,) if isinstance(verdicts, Verdict) else tuple(verdicts.verdicts if isinstance(verdicts, Decision) else verdicts)
    told = noted(request.scope)
    if told is not None:
        told += found
    return found


def enforce(request: HTTPConnection, verdicts: Verdict | Decision | Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Answer 429 to *request* if one of *verdicts*, which a handler asked for by itself, refuses; else tell them with its answer.

    Raises:
        RateLimited: it is refused, and the `LimitMiddleware` around the application answers.
        HTTPException: it is refused, and there is no such middleware.
    """
    found = note(request, verdicts)
    told = noted(request.scope)
    refusals = [verdict for verdict in found if not verdict.allowed]
    if not refusals:
        return found
    status, text = answer_to(refusals)
    worst = max(refusals, key=lambda verdict: verdict.retry_after)
    if told is not None:
        raise limited(worst)
    headers = {name.decode(): value.decode() for name, value in [*limit_headers(found), retry_after(worst.retry_after)]}
    raise HTTPException(status, text, headers)
