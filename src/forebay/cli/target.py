"""``MODULE:NAME`` on the command line is something in the user's own code; what cannot be found is said in one line."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from .ending import refuse

__all__ = ["find"]


def find(target: str, option: str) -> Any:
    """Return what *target* names; end the command if there is no such thing. An error inside the module is the user's to see."""
    module, _, path = target.partition(":")
    if not module or not path:
        refuse(f"{option} {target!r} is not MODULE:NAME, as in shop.warm:users")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            refuse(f"{option} {target!r}: there is no module {error.name!r} here or on PYTHONPATH")
        raise
    for name in path.split("."):
        if not hasattr(found, name):
            refuse(f"{option} {target!r}: {module} has no {path!r}")
        found = getattr(found, name)
    return found
