"""Whose connection it is. The password is asked for at each new connection, and is kept and shown nowhere."""

from __future__ import annotations

from msgspec import Struct

from ..errors import ConnectFailed
from ..settings import Settings

__all__ = ["Credentials", "credentials_of", "sentinel_credentials_of"]


class Credentials(Struct, frozen=True):
    """A user and a password, or None for a server that asks for neither."""

    username: str
    password: str | None

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
        except (OSError, UnicodeDecodeError) as error:
            raise ConnectFailed(f"REDIS_PASSWORD_FILE={settings.password_file!r} cannot be read: {type(error).__name__}") from error
        if not text.strip("\r\n"):
            raise ConnectFailed(f"REDIS_PASSWORD_FILE={settings.password_file!r} is empty: its first line must be the password")
        return Credentials(username, text.strip("\r\n").splitlines()[0])
    if not callable(settings.password):
        return Credentials(username, settings.password)
    try:
        password = settings.password()
    except Exception as error:
        raise ConnectFailed(f"the function that supplies the password failed with {type(error).__name__}") from error
    if not isinstance(password, str) or not password:
        raise ConnectFailed(f"the function that supplies the password returned {type(password).__name__}, and no text")
    return Credentials(username, password)


def sentinel_credentials_of(settings: Settings) -> Credentials:
    """Return the credentials for sentinels, which are none of the server's."""
    return Credentials(settings.sentinel_username or "default", settings.sentinel_password)
