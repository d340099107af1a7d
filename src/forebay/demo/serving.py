"""Starts what is missing, serves until a signal, and undoes every step that was taken, however far it had come."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from ..bay import AsyncForebay
from ..errors import ForebayError
from ..settings import Settings
from ..wire.embedded import EmbeddedServer
from .app import create_app
from .database import EXAMPLE_PASSWORD, cause_of, open_database
from .ending import Ending
from .settings import DemoSettings, where_is
from .xcache import note


class CannotStart(Exception):
    """The message is all that is printed."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: those would raise each signal again, in the midst of the tidying up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `Ending`."""
        yield

    def end(self) -> None:
        """Take no more requests, finish those under way, and return from `serve`."""
        self.should_exit = True


def run(settings: DemoSettings, ending: Ending) -> None:
    """Serve until *ending* is wanted, and leave nothing behind.

    Raises:
        CannotStart, ForebayError: the message says all there is to say.
    """
    with ExitStack() as opened:
        _run(settings, ending, opened)


def _run(settings: DemoSettings, ending: Ending, opened: ExitStack) -> None:
    listener = opened.enter_context(_listen(settings.host, settings.port))  # first: the likeliest failure, with nothing to undo
    if settings.database is None:
        directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="forebay-demo-"))
        database = URL.create("sqlite+aiosqlite", database=str(Path(directory, "demo.sqlite")))
    else:
        database = settings.database
    if settings.redis is None:
        server = EmbeddedServer(port=0)
        opened.callback(server.stop)
        redis = Settings.from_url(server.url)
    else:
        redis = settings.redis
    bay = AsyncForebay(settings=redis, required=False, on_operation=note)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(settings, ending, listener, database, bay))


async def _serve(settings: DemoSettings, ending: Ending, listener: socket.socket, database: URL, bay: AsyncForebay) -> None:
    ending.does(_cancel_this_task())
    engine = open_database(database)
    app = create_app(bay, engine)
    config = uvicorn.Config(app, lifespan="off", timeout_graceful_shutdown=3, server_header=False, proxy_headers=False)
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_callback(_let_workers_end)
        try:  # the lifespan is entered here and not by uvicorn, which would print a traceback for a database that is away
            await opened.enter_async_context(app.router.lifespan_context(app))
        except (SQLAlchemyError, OSError) as error:
            raise CannotStart(f"the database {where_is(database)} cannot be used: {_without_secret(cause_of(error), database)}") from None
        cache_up = await _answers(bay)
        print(_banner(settings, listener, database, bay, cache_up=cache_up), flush=True)
        server = _Server(config)
        ending.does(server.end)
        await server.serve(sockets=[listener])


def _cancel_this_task() -> Callable[[], object]:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101 - a coroutine that runs has a task
    return lambda: loop.call_soon_threadsafe(task.cancel)


async def _let_workers_end() -> None:
    # aiosqlite does not wait for the thread of a connection that failed or was given up. That thread must end while the loop
    # it reports to still runs, or it prints a traceback. Daemon threads are its alone: SQLAlchemy makes them so.
    for worker in threading.enumerate():
        if worker.daemon:
            await asyncio.to_thread(worker.join, 1.0)


async def _answers(bay: AsyncForebay) -> bool:
    try:
        await bay.ping()
    except ForebayError:
        return False
    return True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotStart(f"HOST={host!r} cannot be listened on: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # from here on callers wait instead of being refused
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(f"port {port} on {host} is taken; choose another, as in PORT={port % 65535 + 1}") from None
        raise CannotStart(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
    return listener


def _banner(settings: DemoSettings, listener: socket.socket, database: URL, bay: AsyncForebay, *, cache_up: bool) -> str:
    port = listener.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - shown, not bound
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    gone = "gone with the demo"
    cache = f"private Valkey at {bay.settings.where}, {gone}" if settings.redis is None else f"{bay.settings.where}, as given"
    if not cache_up:
        cache += "; it does not answer, so the database does all the work"
    stored = f"private SQLite at {database.database}, {gone}" if settings.database is None else f"{where_is(database)}, as given"
    return f"""
Forebay's users API
  API       {url}
  docs      {url}/docs
  log in    {url}/account as ada.lovelace@example.org, with the password {EXAMPLE_PASSWORD}
  cache     {cache}
  database  {stored}

Try:
  curl -i {url}/users/1      # twice: X-Cache says MISS, then HIT
  curl -i -X PUT {url}/users/1 -H 'Content-Type: application/json' -d '{{"email": "ada@example.org", "name": "Countess Lovelace"}}'

Ctrl-C stops everything.
"""


def _without_secret(told: str, database: URL) -> str:
    return told.replace(database.password, "***") if database.password else told
