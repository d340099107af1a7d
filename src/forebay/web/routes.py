"""Which route a request takes, by its template: ``/users/{id}`` and not ``/users/1``, so that no number of paths is a way past a limit.

The application's own routes are asked, through mounts and hosts, in their order. What they do not know is one place: `NOWHERE`.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, Final

from starlette.routing import BaseRoute, Host, Match, Mount

__all__ = ["METHODS", "NOWHERE", "method_of", "methods_in", "rooted", "routes_of", "template_of", "templates_of"]

NOWHERE: Final = "(no route)"
_INSIDE: Final = "/*"  # of something mounted that shows no routes

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})

Scope = MutableMapping[str, Any]


def routes_of(app: Any) -> Sequence[BaseRoute] | None:
    """Return the routes of an application, through the middleware that wraps it; None if it shows none."""
    for _ in range(100):
        routes = getattr(app, "routes", None)
        if isinstance(routes, list | tuple) and all(hasattr(route, "matches") for route in routes[:1]):  # another framework's do not
            return routes
        if routes is not None:
            return None
        app = getattr(app, "app", None)
        if app is None:
            return None
    return None


def rooted(app: Any, scope: Scope) -> Scope:
    """Return *scope* as *app* sees it, if it was told under which path it is served."""
    for _ in range(100):
        root = getattr(app, "root_path", None)
        if root or not hasattr(app, "app"):
            break
        app = app.app
    return {**scope, "root_path": root} if isinstance(root, str) and root else scope


def template_of(routes: Iterable[Any], scope: Scope) -> str:
    """Return the template of the route that *scope* takes among *routes*."""
    partial: str | None = None
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.NONE:
            continue
        whole = getattr(route, "starlette_route", None) or route
        if isinstance(whole, Mount | Host):
            inner = routes_of(whole.app)
            within = _INSIDE if inner is None else template_of(inner, rooted(whole.app, {**scope, **child}))
            return f"{whole.path if isinstance(whole, Mount) else whole.host}{_INSIDE if within == NOWHERE else within}"
        included = getattr(route, "effective_route_contexts", None)
        if included is not None:  # a router that FastAPI included, with its prefix
            template = template_of(included(), scope)
            if template == NOWHERE:
                continue
        else:
            template = _template(whole)
        if match is Match.FULL:
            return template
        if partial is None:  # another method, which is answered 405, or taken by a later route
            partial = template
    return NOWHERE if partial is None else partial


def templates_of(routes: Iterable[Any]) -> set[str]:
    """Return every template that `template_of` may name for *routes*, save `NOWHERE`."""
    found: set[str] = set()
    for route in routes:
        whole = getattr(route, "starlette_route", None) or route
        included = getattr(route, "effective_route_contexts", None)
        if isinstance(whole, Mount | Host):
            base = whole.path if isinstance(whole, Mount) else whole.host
            inner = routes_of(whole.app)
            found |= {f"{base}{within}" for within in (_INSIDE, *(templates_of(inner) if inner is not None else ()))}
        elif included is not None:
            found |= templates_of(included())
        else:
            found.add(_template(whole))
    return found


def methods_in(routes: Iterable[Any]) -> set[str]:
    """Return every method that *routes* name."""
    found: set[str] = set()
    for route in routes:
        whole = getattr(route, "starlette_route", None) or route
        included = getattr(route, "effective_route_contexts", None)
        if isinstance(whole, Mount | Host):
            found |= methods_in(routes_of(whole.app) or ())
        elif included is not None:
            found |= methods_in(included())
        else:
            found |= set(getattr(whole, "methods", None) or ())
    return found


def method_of(scope: Scope) -> str:
    """Return the method as limits count it: what asks for the head of an answer asks for the answer, and invented ones are one."""
    if scope["type"] == "websocket":
        return "WEBSOCKET"
    method = str(scope["method"]).upper()  # servers pass on what the client wrote, and some applications take it
    return "GET" if method == "HEAD" else method if method in METHODS else "OTHER"


def _template(route: Any) -> str:
    return str(getattr(route, "path", None) or f"({type(route).__name__})")  # a kind of which nothing is known is one place
