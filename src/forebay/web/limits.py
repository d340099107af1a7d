"""Limits for any ASGI application: decided before it is called, told in every answer, and 429 before anything else is done.

A route is known by its template and never by its path, so that no number of paths is a way past a limit; what the application's routes do
not know is one place too. All limits of a request are decided at once, and leave with whatever else its tick asks of the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from ..durations import Duration, to_seconds
from ..errors import InvalidCost, RateLimited, SettingsError, Unavailable
from ..ratelimit.core import LimiterCore
from ..ratelimit.options import check_plain
from ..ratelimit.together import hit_all
from ..ratelimit.verdict import Verdict
from .asgi import App, Message, Receive, Scope, Send
from .identity import Identity, by_address, needs_session
from .limit_headers import EXCEEDED, Headers, body_of, limit_headers, retry_after
from .request_session import session_in
from .routes import METHODS, NOWHERE, method_of, methods_in, rooted, routes_of, template_of, templates_of

__all__ = ["Limit", "LimitMiddleware", "asked_of", "check_names", "decided", "load_session", "noted"]

_NOTED: Final = "forebay.limits"  # in the scope: the verdicts about a request
_KINDS: Final = ("http", "websocket")
_BEGINNINGS: Final = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_MORE_METHODS: Final = METHODS | {"HEAD", "WEBSOCKET", "OTHER", "PURGE", "LINK", "UNLINK"}
_MORE_METHODS_OF_DAV: Final = {"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH"}
_UNKNOWN: Final = "unknown"


class Limit:
    """One limit of an application: a limiter, whom it tells apart, and where it holds.

    Args:
        limiter: from `AsyncForebay.limiter`, with a rate.
        by: who is asking, see `forebay.web.identity`; by default the middleware's.
        routes: templates such as ``"/users/{id}"``, with the prefixes of mounts; None: everywhere. ``"*"`` at the end stands for all
            that begins so.
        methods: such as ``"POST"``, ``"WEBSOCKET"``; None: all. HEAD counts as GET.
        shared: all routes together have one limit for each client; by default each route and method has its own.
        unknown: what a request is whose sender *by* cannot tell: all of them are one client ("together"), or not limited ("skip").
        cost: of a request, or a function of its scope.

    Raises:
        SettingsError: an argument cannot be used.
    """

    def __init__(
        self,
        limiter: LimiterCore,
        *,
        by: Identity | None = None,
        routes: str | Iterable[str] | None = None,
        methods: str | Iterable[str] | None = None,
        shared: bool = False,
        unknown: Literal["together", "skip"] = "together",
        cost: int | Callable[[Scope], int] = 1,
    ) -> None:
        if not isinstance(limiter, LimiterCore):
            raise SettingsError(f"{limiter!r} is no limiter for asyncio: make one with AsyncForebay.limiter")
        if not limiter.policy.options.rates:
            raise SettingsError(f"limiter {limiter.name!r} has no rate, only slots: take them inside, with limiter.slot")
        if unknown not in ("together", "skip"):
            raise SettingsError(f"unknown={unknown!r} is unknown: use 'together' or 'skip'")
        self.limiter = limiter
        self.by = by
        self.routes = None if routes is None else _texts("routes", routes)
        self.methods = None if methods is None else frozenset(method.upper() for method in _texts("methods", methods))
        self.shared = shared
        self.unknown = unknown
        self.cost = cost
        for route in self.routes or ():
            if "/" not in route and route not in ("*", NOWHERE):
                raise SettingsError(f"route {route!r} is no template: it begins with '/', as in '/users/{{id}}'")
        self._exact = frozenset(self.routes or ())
        self._heads = tuple(route[:-1] for route in self.routes or () if route.endswith("*"))

        check_plain("cost", cost, "a scope") if callable(cost) else _check_cost(limiter, cost)
        if by is not None:
            check_plain("by", by, "a scope")

    @property
    def needs_place(self) -> bool:
        """Whether the route of a request must be known."""
        return self.routes is not None or not self.shared

    def holds(self, place: str, method: str, written: str) -> bool:
        """Whether it holds for a request of *method*, as it is counted and as it was *written*, to the route *place*."""
        if self.methods is not None and method not in self.methods and written not in self.methods:
            return False
        return self.routes is None or place in self._exact or (bool(self._heads) and place.startswith(self._heads))

    def key(self, identity: str, place: str, method: str) -> str:
        """Return what is counted."""
        return identity if self.shared else f"{identity} {method} {place}"

    def __repr__(self) -> str:
        where = "everywhere" if self.routes is None else ", ".join(self.routes)
        return f"Limit({self.limiter.name!r}, {where}{', shared' if self.shared else ''})"


class LimitMiddleware:
    """Decides all *limits* of every request and WebSocket, and answers 429 where one refuses.

    Inside a `SessionMiddleware` the decision leaves together with the question for the session. What is limited by its user waits for
    the session first. It also answers for dependencies (`forebay.web.limit_dependency.require_limit`), and for `RateLimited` raised inside.

    Args:
        limits: what holds; or limiters, each for itself on every route.
        by: who is asking, where a limit does not say so. By default the address of the peer, without trust in any proxy.
        body: of a 429: "json" ``{"error": "rate limit exceeded"}``, or "problem" (RFC 9457).
        headers: whether answers tell the limits.
        retry_jitter: ``Retry-After`` is up to so much later than it need be, so that not all come back at once.

    Raises:
        SettingsError: an argument cannot be used; when the application starts, that a limit names a route that is not there.
    """

    def __init__(
        self,
        app: App,
        limits: Limit | LimiterCore | Sequence[Limit | LimiterCore],
        *,
        by: Identity | None = None,
        body: Literal["json", "problem"] = "json",
        headers: bool = True,
        retry_jitter: Duration | None = None,
    ) -> None:
        if body not in ("json", "problem"):
            raise SettingsError(f"body={body!r} is unknown: use 'json' or 'problem'")
        self.app = app
        listed = [limits] if isinstance(limits, Limit | LimiterCore) else limits
        self._limits = [limit if isinstance(limit, Limit) else Limit(limit) for limit in listed]
        check_names(self._limits)
        if len({id(limit.limiter.policy.port) for limit in self._limits}) > 1:
            raise SettingsError("these limits are of several bays: what one decision asks has one server; add a middleware for each bay")
        self._by = by_address() if by is None else by
        check_plain("by", self._by, "a scope")
        self._body: Literal["json", "problem"] = body
        self._headers = headers
        self._jitter = 0.0 if retry_jitter is None else to_seconds(retry_jitter)
        self._needs_place = any(limit.needs_place for limit in self._limits)
        self._needs_session = any(needs_session(limit.by or self._by) for limit in self._limits)
        self._checked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if not self._checked:
            try:
                self._check_routes()
            except SettingsError as error:
                if kind != "lifespan":
                    raise
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
        if kind not in _KINDS:
            await self.app(scope, receive, send)
            return
        first = _NOTED not in scope  # another one around this tells all of them
        verdicts: list[Verdict] = scope.setdefault(_NOTED, [])
        if self._needs_session:
            await load_session(scope)
        found = await decided(self._asks(scope))
        verdicts += found
        answer = _Answer(send, verdicts, self._headers and first)
        refusals = [verdict for verdict in found if not verdict.allowed]
        if refusals:
            await self._refuse(scope, receive, answer, refusals)
            return
        try:
            await self.app(scope, receive, answer.send)
        except RateLimited as error:
            if answer.began:
                if kind == "http":
                    raise
                await answer.send({"type": "websocket.close", "code": 1008, "reason": EXCEEDED})
                return
            if error.verdict is not None and error.verdict not in verdicts:
                verdicts.append(error.verdict)
            refusals = [verdict for verdict in verdicts if not verdict.allowed]  # dependencies have added theirs
            await self._refuse(scope, None, answer, refusals, error.retry_after)

    def _asks(self, scope: Scope) -> list[tuple[LimiterCore, str, int]]:
        place = self._place(scope) if self._needs_place else NOWHERE
        return asked_of(self._limits, scope, self._by, place)

    def _place(self, scope: Scope) -> str:
        routes = routes_of(self.app)
        return NOWHERE if routes is None else template_of(routes, rooted(self.app, scope))

    def _check_routes(self) -> None:
        """Refuse to serve with a limit that would never hold."""
        self._checked = True
        routes = routes_of(self.app)
        known = templates_of(routes) if routes is not None else set()
        for limit in self._limits:
            for route in limit.routes or ():
                head = route[:-1] if route.endswith("*") else None
                found = route in known if head is None else any(template.startswith(head) for template in known)
                if not found and route not in ("*", NOWHERE):
                    self._checked = False
                    hidden = "none: a middleware that shows no app hides them; put this one inside it"
                    raise SettingsError(f"{limit!r}: there is no route {route!r}; there are {', '.join(sorted(known)) or hidden}")
            unknown = (limit.methods or frozenset()) - _MORE_METHODS - _MORE_METHODS_OF_DAV - methods_in(routes or ())
            if unknown:
                self._checked = False
                raise SettingsError(f"{limit!r}: nothing takes the method {min(unknown)!r}")

    async def _refuse(
        self, scope: Scope, receive: Receive | None, answer: _Answer, refusals: list[Verdict], seconds: float | None = None
    ) -> None:
        status, kind, body = body_of(refusals, self._body)
        if seconds is None:
            seconds = max(verdict.retry_after for verdict in refusals)
        headers: Headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        headers.append(retry_after(seconds, self._jitter))
        start = "http.response"
        if scope["type"] == "websocket":
            if receive is not None:
                await receive()  # the client's wish to connect
            if "websocket.http.response" not in scope.get("extensions", {}):
                await answer.send({"type": "websocket.close", "code": 1008, "reason": EXCEEDED})
                return
            start = "websocket.http.response"
        await answer.send({"type": f"{start}.start", "status": status, "headers": headers})
        await answer.send({"type": f"{start}.body", "body": body})


class _Answer:
    """Sends an answer, whose beginning tells the limits."""

    __slots__ = ("_headers", "_send", "_verdicts", "began")

    def __init__(self, send: Send, verdicts: list[Verdict], headers: bool) -> None:
        self._send = send
        self._verdicts = verdicts
        self._headers = headers
        self.began = False

    async def send(self, message: Message) -> None:
        """Pass *message* on."""
        if not self.began and message["type"] in _BEGINNINGS:
            self.began = True
            if self._headers:
                message["headers"] = [*message.get("headers", ()), *limit_headers(self._verdicts)]
        await self._send(message)


def asked_of(limits: Iterable[Limit], scope: Scope, by: Identity, place: str) -> list[tuple[LimiterCore, str, int]]:
    """Return what *limits* ask about a request to the route *place*."""
    method, written = method_of(scope), str(scope.get("method", "")).upper()
    asks = []
    for limit in limits:
        if limit.holds(place, method, written):
            identity = (limit.by or by)(scope)
            if identity is None and limit.unknown == "skip":
                continue
            cost = limit.cost(scope) if callable(limit.cost) else limit.cost
            if cost > 0:
                asks.append((limit.limiter, limit.key(_UNKNOWN if identity is None else identity, place, method), cost))
    return asks


async def decided(asks: Sequence[tuple[LimiterCore, str, int]]) -> Sequence[Verdict]:
    """Return the verdicts about *asks*, which are decided at once; not those of limiters in shadow, for clients would heed them.

    What costs more than could ever pass is refused: that may be the client's doing.
    """
    if not asks:
        return ()
    try:
        if len(asks) == 1:
            ((limiter, key, cost),) = asks
            verdicts: Sequence[Verdict] = (await limiter.hit(key, cost),)
        else:
            verdicts = (await hit_all(asks[0][0].policy.port, asks)).verdicts
    except InvalidCost:
        limiter = max(asks, key=lambda each: each[2])[0]
        rate = limiter.policy.options.rates[0]
        return (Verdict(False, rate.limit, 0, rate.per, rate.per, limiter.name, rate),)  # noqa: FBT003
    if any(limiter.policy.options.shadow for limiter, _, _ in asks):
        shadows = {limiter.name for limiter, _, _ in asks if limiter.policy.options.shadow}
        verdicts = [verdict for verdict in verdicts if verdict.policy not in shadows]
    return verdicts


def check_names(limits: Iterable[Limit]) -> None:
    """Refuse two limiters of one name, which would count in one place by two rules."""
    policies: dict[str, object] = {}
    for limit in limits:
        if policies.setdefault(limit.limiter.name, limit.limiter.policy) is not limit.limiter.policy:
            raise SettingsError(f"two limiters are called {limit.limiter.name!r}: name them apart, or give one limiter several rates")


def _check_cost(limiter: LimiterCore, cost: int) -> None:
    least = min(rate.burst for rate in limiter.policy.options.rates)
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 1:
        raise SettingsError(f"cost={cost!r} is no whole number from 1 on, and no function of a scope")
    if cost > least and limiter.policy.options.rate_for is None:
        raise SettingsError(f"cost={cost} is more than limit {limiter.name!r} lets through at once, which is {least}")


def noted(scope: Mapping[str, Any]) -> list[Verdict] | None:
    """Return where the verdicts about a request are noted for its answer; None where no `LimitMiddleware` would tell them."""
    found: list[Verdict] | None = scope.get(_NOTED)
    return found


async def load_session(scope: Scope) -> None:
    """Load the session. That its store is away is for whoever needs it to tell.

    Raises:
        UsageError: there is none.
    """
    session = session_in(scope, "forebay.web.asgi.SessionMiddleware, around the LimitMiddleware,")
    if session.loaded is None:
        try:
            await session.load()
        except Unavailable:
            return


def _texts(option: str, given: str | Iterable[str]) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise SettingsError(f"{option}={given!r} holds no text: leave it out to mean all")
    return texts
