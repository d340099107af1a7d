"""The two tables, and the shapes that requests and answers have. What a table could not hold, a shape refuses first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Integer, String, Text, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Base",
    "CredentialRow",
    "LoginIn",
    "NewUserIn",
    "PasswordIn",
    "Post",
    "PostIn",
    "PostRow",
    "User",
    "UserId",
    "UserIn",
    "UserRow",
]

# SQLite numbers its rows only in a column that is called INTEGER; it holds 64 bits all the same.
_BigId: Final = BigInteger().with_variant(Integer, "sqlite")


class Moment(TypeDecorator[datetime]):
    """A point in time, always in UTC: SQLite forgets time zones, so they are put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the signature is SQLAlchemy's
        """Hand UTC to the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the signature is SQLAlchemy's
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """What `prepare` creates the tables from."""


class UserRow(Base):
    """One user. An id is never given out twice, so that a deleted user's cached posts can never become another's."""

    __tablename__ = "users"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(_BigId, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(Moment, default=_now)


class CredentialRow(Base):
    """How a user proves who they are. A user without one cannot log in."""

    __tablename__ = "credentials"

    user_id: Mapped[int] = mapped_column(_BigId, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    password_hash: Mapped[str] = mapped_column(String(200))


class PostRow(Base):
    """One post. It goes with its user, also if both change at the same time: the database itself sees to it."""

    __tablename__ = "posts"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(_BigId, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(_BigId, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, default=_now)


UserId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The user's id", examples=[1])]

# Control characters are refused (PostgreSQL cannot store NUL at all); surrounding spaces are dropped before the length is taken.
_Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^\P{Cc}+$")]
_Email = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^[^@\s\p{C}]{1,64}@[^@\s\p{C}.]+(\.[^@\s\p{C}.]+)+$")
]
_Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000, pattern=r"^[^\x00]+$")]


_Password = Annotated[str, StringConstraints(min_length=8, max_length=200)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UserIn(_Request):
    """What a caller says about a user."""

    email: _Email = Field(examples=["ada@example.org"])
    name: _Line = Field(examples=["Ada Lovelace"])


class NewUserIn(UserIn):
    """What a caller says about a new user, who can log in if a password is given."""

    password: _Password | None = Field(default=None, repr=False, examples=["correct horse"])


class LoginIn(_Request):
    """Who somebody says they are."""

    email: str = Field(max_length=254, examples=["grace.hopper@example.org"])
    password: str = Field(max_length=200, repr=False, examples=["forebay-demo"])
    remember_me: bool = False


class PasswordIn(_Request):
    """Another password."""

    password: _Password = Field(repr=False)


class PostIn(_Request):
    """What a caller says in a post."""

    title: _Line = Field(examples=["On the Analytical Engine"])
    body: _Prose = Field(examples=["It weaves algebraic patterns, as the loom weaves flowers."])


class User(BaseModel):
    """A user, as answered and as cached."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    name: str
    created_at: datetime


class Post(BaseModel):
    """A post, as answered and as cached."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    user_id: int
    title: str
    body: str
    created_at: datetime
