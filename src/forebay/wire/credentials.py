"""Whose connection it is. The password is asked for at each new connection, and is kept and shown nowhere."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ..errors import ConnectFailed
from ..settings import Settings

__all__ = ["Credentials", "credentials_of", "sentinel_credentials_of"]


class Credentials(Struct, frozen=True):
    """A user and a password, or None for a server that asks for neither."""

    username: str
    password: str | None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("username", self.username)]

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, {'***' if self.password else None})"


def credentials_of(settings: Settings) -> Credentials:
    """Return the credentials of the moment: a function is called, a file is read.

    Raises:
        ConnectFailed: that failed, or gave no password.
    """
    username = settings.username or "default"
    if settings.password_file is not None:
        try:
            with open(settings.password_file, encoding="utf-8") as file:
                text = file.read()
        except UnicodeDecodeError:  # which quotes what it could not read
            raise ConnectFailed(f"REDIS_PASSWORD_FILE={settings.password_file!r} is no UTF-8 text") from None
        except (OSError, ValueError) as error:
            raise ConnectFailed(f"REDIS_PASSWORD_FILE={settings.password_file!r} cannot be read: {type(error).__name__}") from error
        line = text.split("\n", 1)[0].rstrip("\r")
        if not line:
            raise ConnectFailed(f"REDIS_PASSWORD_FILE={settings.password_file!r} is empty: its first line must be the password")
        return Credentials(username, line)
    if not callable(settings.password):
        return Credentials(username, _sendable(settings.password))
    try:
        password = settings.password()
    except Exception as error:
        raise ConnectFailed(f"the function that supplies the password failed with {type(error).__name__}") from error
    if not isinstance(password, str) or not password:
        raise ConnectFailed(f"the function that supplies the password returned {type(password).__name__}, and no text")
    return Credentials(username, _sendable(password))


def _sendable(password: str | None) -> str | None:
    try:
        (password or "").encode()
    except UnicodeEncodeError:
        raise ConnectFailed("the password holds bytes that are no UTF-8, and cannot be sent") from None
    return password


def sentinel_credentials_of(settings: Settings) -> Credentials:
    """Return the credentials for sentinels, which are none of the server's."""
    return Credentials(settings.sentinel_username or "default", _sendable(settings.sentinel_password))
