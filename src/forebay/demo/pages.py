"""One page without scripts: log in, see who one is and on which devices, and log out. Each form carries the session's CSRF token."""

from __future__ import annotations

import math
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ..sessions.session import Session
from ..web.fastapi import current_session, session_of
from ..web.limit_dependency import note
from .accounts import Accounts, Device, Me, same_origin
from .limits import Limits
from .stylesheet import STYLE

__all__ = ["pages_router"]

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


_Current = Annotated[Session, Depends(current_session)]
_Field = Annotated[str, Form(max_length=1000)]


def pages_router(accounts: Accounts, limits: Limits) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(same_origin)])

    @router.get("/account")
    async def account(session: _Current) -> Response:
        me = None if session.user_id is None else await accounts.me(session)
        if me is None:
            return _page("Log in", session, _LOGIN.format(csrf=_csrf(session)))
        body = _profile(me, session) + _devices(await accounts.devices(session), session)
        return _page(me.user.name, session, body)

    @router.get("/account/style.css")
    async def style() -> Response:
        return Response(STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    @router.post("/account/login")
    async def login(
        request: Request, session: _Current, email: _Field, password: _Field, csrf: _Field = "", remember: _Field = ""
    ) -> Response:
        _check(session, csrf)
        tried = await limits.try_login(email)
        note(request, tried)
        if not tried.allowed:
            wait = math.ceil(tried.retry_after)
            session.flash(f"This account was tried too often. There is another try in {wait} seconds.", "error")
            page = _page("Log in", session, _LOGIN.format(csrf=_csrf(session)), 429)
            page.headers["Retry-After"] = str(wait)
            return page
        user_id = await accounts.authenticated(email, password)
        if user_id is None:
            session.flash("Wrong address or password.", "error")
        else:
            await limits.logged_in(email)
            new = await session_of(request).login(user_id, remember_me=bool(remember))
            new.flash("Welcome.")
        return _back()

    @router.post("/account/logout")
    async def logout(request: Request, session: _Current, csrf: _Field = "") -> Response:
        _check(session, csrf)
        await session_of(request).logout()
        return _back()

    @router.post("/account/devices/{handle}/end")
    async def end(handle: str, request: Request, session: _Current, csrf: _Field = "") -> Response:
        _check(session, csrf)
        if handle == session.handle:
            await session_of(request).logout()
        elif session.user_id is not None and await accounts.sessions.destroy_handle(session.user_id, handle):
            session.flash("That device is logged out.")
        return _back()

    @router.post("/account/logout-everywhere")
    async def everywhere(session: _Current, csrf: _Field = "") -> Response:
        _check(session, csrf)
        if session.user_id is not None:
            await accounts.sessions.destroy_for(session.user_id, except_=session.id)
            session.flash("All other devices are logged out.")
        return _back()

    return router


def _check(session: Session, presented: str) -> None:
    if not session.check_csrf(presented):
        raise HTTPException(403, "this form is not from this session's page: go back, load it again, and send it once more")


def _back() -> RedirectResponse:
    return RedirectResponse("/account", 303)


def _csrf(session: Session) -> str:
    return f'<input type="hidden" name="csrf" value="{escape(session.csrf_token)}">'


def _page(title: str, session: Session, body: str, status: int = 200) -> HTMLResponse:
    flashes = "".join(f'<p class="{escape(category)}" role="status">{escape(str(text))}</p>' for category, text in session.flashes())
    return HTMLResponse(_PAGE.format(title=escape(title), flashes=flashes, body=body), status, _HEADERS)


def _profile(me: Me, session: Session) -> str:
    return _PROFILE.format(
        name=escape(me.user.name),
        email=escape(me.user.email),
        since=f"{me.created_at:%d %B %Y, %H:%M} UTC",
        until=f"{me.expires_at:%H:%M} UTC",
        csrf=_csrf(session),
    )


def _devices(devices: list[Device], session: Session) -> str:
    rows = "".join(
        _DEVICE.format(
            agent=escape(device.agent or "unknown"),
            here=' <span class="here">this device</span>' if device.current else "",
            address=escape(device.address or "unknown"),
            seen=f"{device.last_seen:%d %b, %H:%M} UTC",
            handle=escape(device.handle),
            csrf=_csrf(session),
        )
        for device in devices
    )
    others = _OTHERS.format(csrf=_csrf(session)) if len(devices) > 1 else ""
    return f'<section><h2>Devices</h2><ul class="devices">{rows}</ul>{others}</section>'


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Forebay's users API</title>
<link rel="stylesheet" href="/account/style.css">
</head>
<body>
<main>
<header><a href="/account">Forebay</a> <a href="/docs">API</a></header>
{flashes}
{body}
</main>
</body>
</html>
"""

_LOGIN: Final = """<h1>Log in</h1>
<form method="post" action="/account/login" class="login">
{csrf}
<label>Address <input name="email" type="email" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<label class="check"><input name="remember" type="checkbox" value="1"> Keep me logged in for 30 days</label>
<button>Log in</button>
</form>
"""

_PROFILE: Final = """<h1>{name}</h1>
<p class="address">{email}</p>
<p>Logged in since {since}; until {until} if nothing happens.</p>
<form method="post" action="/account/logout">{csrf}<button>Log out</button></form>
"""

_DEVICE: Final = """<li>
<div><strong>{agent}</strong>{here}<br><small>{address}, last seen {seen}</small></div>
<form method="post" action="/account/devices/{handle}/end">{csrf}<button class="quiet">Log out</button></form>
</li>
"""

_OTHERS: Final = """<form method="post" action="/account/logout-everywhere">{csrf}<button>Log out all other devices</button></form>
"""
