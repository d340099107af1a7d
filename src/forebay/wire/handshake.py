"""The first words on a connection: RESP3, who we are, which database, which role. Sent in one write; each refusal has its remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from msgspec import Struct

from ..errors import ConnectFailed, ServerError
from ..events import NameRefused, TrackingRefused, WentWithout
from .credentials import Credentials
from .resp import Arg, Reply
from .tracking import OPT_IN

__all__ = ["Handshake", "Role"]

CLIENT_NAME: Final = "forebay"
Role = Literal["any", "primary", "replica", "sentinel", "cluster-replica"]


class Handshake(Struct, frozen=True):
    """What a connection says first, and what it must hear. ``role`` is what the server must be, by its own word;
    ``tracks`` asks it to tell of changed keys.
    """

    credentials: Credentials
    db: int = 0
    role: Role = "any"
    tracks: bool = False

    def commands(self) -> list[tuple[Arg, ...]]:
        """Return the commands that open the connection."""
        hello: tuple[Arg, ...] = ("HELLO", 3)
        if self.credentials.password is not None:
            hello += ("AUTH", self.credentials.username, self.credentials.password)
        commands: list[tuple[Arg, ...]] = [hello, ("CLIENT", "SETNAME", CLIENT_NAME)]
        if self.role == "sentinel":
            return [*commands, ("PING",)]
        if self.tracks:
            commands.append(OPT_IN)
        commands += [("SELECT", self.db), ("PING",)]
        if self.role == "cluster-replica":
            commands.append(("READONLY",))
        elif self.role != "any":
            commands.append(("ROLE",))
        return commands

    def check(self, replies: Sequence[Reply], where: str, refused: Callable[[type[WentWithout], ServerError], None]) -> None:
        """Check the replies to `commands`; a refused name or tracking is passed to *refused* and is no error.

        Raises:
            ConnectFailed: the server refused; the message names *where*, the cause and what to do.
        """
        hello, named, *rest = replies
        if isinstance(hello, ServerError):
            raise ConnectFailed(f"{where} refused the connection: {self._remedy(hello)}") from hello
        if isinstance(named, ServerError):
            refused(NameRefused, named)
        if self.tracks and isinstance(tracking := rest.pop(0), ServerError):
            refused(TrackingRefused, tracking)
        if self.role != "sentinel":
            selected = rest.pop(0)
            if isinstance(selected, ServerError):
                remedy = "" if selected.code == "NOPERM" else "; set REDIS_DB or the URL's path"
                raise ConnectFailed(f"{where} has no database {self.db} for us: {selected}{remedy}") from selected
        for refusal in rest:
            if isinstance(refusal, ServerError):
                raise ConnectFailed(f"{where} is up but does not serve: {refusal}") from refusal
        if self.role in ("primary", "replica"):
            is_primary = isinstance(rest[-1], list) and rest[-1][:1] == [b"master"]
            if is_primary != (self.role == "primary"):
                raise ConnectFailed(f"{where} is not a {self.role} now")

    def _remedy(self, error: ServerError) -> str:
        variables = (
            "REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASSWORD" if self.role == "sentinel" else "REDIS_USERNAME and REDIS_PASSWORD"
        )
        place = "" if self.role == "sentinel" else ", or the URL's user:password@"
        if error.code == "WRONGPASS":
            return f"wrong password for user {self.credentials.username!r} (WRONGPASS); set {variables}{place}"
        if error.code == "NOAUTH" or "without any password" in str(error):
            have = "none is configured here" if self.credentials.password is None else "it expects none"
            return f"{error.code}: about its password, {have}; set or unset {variables.rpartition(' ')[2]}{place}"
        if error.code == "NOPROTO" or "unknown command" in str(error):
            return f"it does not speak RESP3 ({error}); Forebay needs Redis 7.0 or later, or Valkey 8 or later"
        return str(error)
