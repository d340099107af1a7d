"""A key or tag that names parameters, such as ``"user:{user_id}"``: checked when it is written, and without two readings.

Between two fields stands a separator. A value that holds one is put into quotes or brackets, so where it ends is never in doubt.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from ..errors import InvalidKey
from .arguments import bare_text_of

__all__ = ["Template"]

_FORMATTER: Final = string.Formatter()


class Template:
    """Literal text and the names of parameters. ``fields`` are those that it names, in order."""

    def __init__(self, text: str, parameters: Collection[str], what: str) -> None:
        """Read *text*. *what* it is stands at the beginning of each message.

        Raises:
            InvalidKey: it cannot be read, names a parameter that is not there, or leaves open where a value ends.
        """
        try:
            parts = list(_FORMATTER.parse(text))
        except ValueError as error:
            raise InvalidKey(f"{what} {text!r} cannot be read: {error}; a brace itself is written twice") from None
        self._literals: list[str] = [""]
        self.fields: list[str] = []
        for literal, field, form, conversion in parts:
            self._literals[-1] += literal
            if field is None:
                continue
            if form or conversion or not field.isidentifier():
                raise InvalidKey(f"{what} {text!r} may hold names of parameters only, as in {{user_id}}: put anything else into a function")
            if field not in parameters:
                known = ", ".join(map(repr, parameters)) or "none"
                raise InvalidKey(f"{what} {text!r} names {field!r}, which is no parameter that it may name: there are {known}")
            self.fields.append(field)
            self._literals.append("")
        between = self._literals[1:-1]
        if not all(between):
            raise InvalidKey(f"{what} {text!r} must have some text between two fields, such as ':', to tell where the first one ends")
        self._separators = "".join(sorted({literal[0] for literal in between}))

    def render(self, values: Mapping[str, Any], write: Callable[[str, Any, str], str]) -> str:
        """Return the text with *values*, each as ``write(name, value, separators)`` writes it."""
        made = self._literals[0]
        for field, literal in zip(self.fields, self._literals[1:], strict=True):
            made += write(field, values[field], self._separators) + literal
        return made


def bare(_name: str, value: Any, separators: str) -> str:
    """Write a value so that no two of them look the same."""
    return bare_text_of(value, separators)
