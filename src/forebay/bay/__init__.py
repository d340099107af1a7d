"""One connection to one server, and everything that is handed out from it: `Forebay` for threads, `AsyncForebay` for asyncio."""

from .aio import AsyncForebay
from .threads import Forebay

__all__ = ["AsyncForebay", "Forebay"]
