"""Opens the database and makes it ready: tables where there are none, example rows where there is no user, each exactly once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import event, insert, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from .models import Base, CredentialRow, PostRow, UserRow

__all__ = ["AWAY", "EXAMPLES", "EXAMPLE_PASSWORD", "cause_of", "open_database", "prepare"]

AWAY: Final = (OperationalError, InterfaceError, PoolTimeout, OSError)
"""What is raised when the database cannot be reached or does not answer."""

_CONNECT_SECONDS: Final = 3.0
_START_LOCK: Final = 0x464F5245424159  # any number that all demos agree on; it spells FOREBAY

_SEQUENCE_PAST: Final = text(
    "SELECT setval(sequence, greatest(nextval(sequence), :last)) "
    "FROM (SELECT pg_get_serial_sequence('users', 'id')::regclass AS sequence) AS found"
)

_NAMES: Final = (
    "Ada Lovelace",
    "Grace Hopper",
    "Edsger Dijkstra",
    "Barbara Liskov",
    "Donald Knuth",
    "Frances Allen",
    "Ken Thompson",
    "Radia Perlman",
    "Tony Hoare",
    "Karen Jones",
    "Niklaus Wirth",
    "Margaret Hamilton",
)
EXAMPLES: Final = range(1, len(_NAMES) + 1)
"""The ids of the example users."""


EXAMPLE_PASSWORD: Final = "forebay-demo"
"""Of all example users; the demo prints it."""


def open_database(url: URL) -> AsyncEngine:
    """Return an engine for *url*. Nothing is connected yet."""
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url)
        event.listen(engine.sync_engine, "connect", _enforce_foreign_keys)
        return engine
    return create_async_engine(url, pool_pre_ping=True, connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": 10.0})


async def prepare(engine: AsyncEngine, password_hash: str) -> bool:
    """Create missing tables, and the example rows if there is no user; return whether the rows were created.

    *password_hash* is what is kept of the example users' password.

    Several demos may do this at the same moment on one database: a lock lets them through one after the other.
    """
    async with _alone(engine) as connection:
        await connection.run_sync(Base.metadata.create_all)
        if await connection.scalar(select(UserRow.id).limit(1)) is not None:
            return False
        users = [{"id": number, "name": name, "email": _email(name)} for number, name in zip(EXAMPLES, _NAMES, strict=True)]
        await connection.execute(insert(UserRow), users)
        await connection.execute(insert(CredentialRow), [{"user_id": user["id"], "password_hash": password_hash} for user in users])
        await connection.execute(insert(PostRow), [post for user in users for post in _posts_of(user)])
        if engine.dialect.name == "postgresql":
            # Rows that bring their ids leave the sequence behind. It goes forward only: users may have been there before.
            await connection.execute(_SEQUENCE_PAST, {"last": len(users)})
        return True


def cause_of(error: BaseException) -> str:
    """Return the first line of what the database's driver said, without the statement that SQLAlchemy adds."""
    told = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return (told.strip().splitlines() or [type(error).__name__])[0]


@asynccontextmanager
async def _alone(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    if engine.dialect.name == "sqlite":
        # Python's sqlite3 opens a transaction too late, after the tables were looked for: so it is opened by hand.
        async with engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                await connection.exec_driver_sql("ROLLBACK")
                raise
            await connection.exec_driver_sql("COMMIT")
    else:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _START_LOCK})
            yield connection


def _enforce_foreign_keys(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _email(name: str) -> str:
    return name.lower().replace(" ", ".") + "@example.org"


def _posts_of(user: dict[str, Any]) -> list[dict[str, Any]]:
    """Early users have more posts than late ones, so that some are popular."""
    first = str(user["name"]).partition(" ")[0]
    count = max(1, 6 - user["id"] // 2)
    return [
        {"user_id": user["id"], "title": f"{first}'s note {n}", "body": f"Note {n} of {count}, by {user['name']}."}
        for n in range(1, count + 1)
    ]
