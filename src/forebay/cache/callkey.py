"""The key of a call: the function's name and every argument, however the call spells them; or what ``key=`` makes of them.

``profile(7)``, ``profile(user_id=7)`` and a call that leaves a default out have one key. No two calls with different arguments do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final
from uuid import UUID

from ..errors import InvalidKey
from ..keys import Key
from .arguments import CACHE_KEY, Unkeyable, bare_text_of, name_of, quoted, shortened, text_of
from .template import Template

__all__ = ["CallKey", "KeyMaker"]

KeyMaker = str | Callable[..., Key]
"""What ``key=`` takes: a template such as ``"user:{user_id}"``, or a function of the same arguments."""

_EMPTY: Final = inspect.Parameter.empty
_POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY


class CallKey:
    """Makes the keys of one function. ``name`` is what the function is called in keys and messages."""

    def __init__(self, function: Callable[..., Any], key: KeyMaker | None = None, ignore: Iterable[str] = ()) -> None:
        """Look at the signature of *function*.

        Args:
            key: a template, or a function of the same arguments that returns a key; None: name and arguments.
            ignore: the parameters that do not belong to the key.

        Raises:
            InvalidKey: *key* or *ignore* cannot be used for this function.
            TypeError: *key* is neither text nor a function.
        """
        named = isinstance(getattr(function, "__qualname__", None), str)
        self.name = name_of(function) if named else repr(type(function).__qualname__)
        if key is None and (not named or function.__name__ == "<lambda>"):
            raise InvalidKey(f"{self.name} has no name of its own, and keys begin with it: give key=, or decorate a function made with def")
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        self._positional = [(p.name, p.default, p.kind is _POSITIONAL_ONLY) for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
        self._keywords = [(p.name, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY]
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._others = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._ignored = self._checked_ignore(ignore)
        self._shown = [name for name in self._signature.parameters if name not in self._ignored]
        self._maker: Callable[..., Key] | None = None
        self._template: Template | None = None
        if isinstance(key, str):
            self._template = self._checked_template(key)
        elif key is not None:
            self._maker = self._checked_maker(key)

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key of one call.

        Raises:
            InvalidKey: an argument cannot be part of a key, or what ``key=`` returned is none.
            TypeError: the function cannot be called so.
        """
        if self._maker is not None:
            return self._made(self._maker(*args, **kwargs))
        values = self.arguments(args, kwargs)
        if self._template is not None:
            return shortened(self._template.render(values, partial(self._written, bare_text_of)))
        others = self._others
        texts = [
            f"{name}={self._mapping(name, values[name]) if name == others else self._written(text_of, name, values[name])}"
            for name in self._shown
        ]
        return shortened(f"{self.name}({','.join(texts)})")

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter and its value, defaults among them.

        Raises:
            TypeError: the function cannot be called so.
        """
        values: dict[str, Any] = {}
        given, taken = len(args), 0
        if given > len(self._positional) and self._rest is None:
            self._signature.bind(*args, **kwargs)
        for at, (name, default, only) in enumerate(self._positional):
            if at < given:
                values[name] = args[at]
                if name in kwargs and not only:
                    self._signature.bind(*args, **kwargs)
            elif name in kwargs and not only:
                values[name] = kwargs[name]
                taken += 1
            elif default is _EMPTY:
                self._signature.bind(*args, **kwargs)
            else:
                values[name] = default
        if self._rest is not None:
            values[self._rest] = args[len(self._positional) :]
        for name, default in self._keywords:
            if name in kwargs:
                values[name] = kwargs[name]
                taken += 1
            elif default is _EMPTY:
                self._signature.bind(*args, **kwargs)
            else:
                values[name] = default
        if self._others is not None:
            named = {name for name, _, only in self._positional if not only}.union(name for name, _ in self._keywords)
            values[self._others] = {name: value for name, value in kwargs.items() if name not in named}
        elif taken != len(kwargs):
            self._signature.bind(*args, **kwargs)
        return values

    def tag_templates(self, tags: Iterable[str]) -> list[Template]:
        """Return *tags* as templates that may name any parameter.

        Raises:
            InvalidKey: one cannot be read, or names what is no parameter.
        """
        if isinstance(tags, str):
            raise InvalidKey(f"tags are a list, as in tags=[{tags!r}]")
        return [Template(tag, self._signature.parameters, f"tag of {self.name}:") for tag in tags]

    def tag(self, template: Template, values: Mapping[str, Any]) -> str:
        """Return a tag with *values* as ``str`` writes them: two that look the same are invalidated together.

        Raises:
            InvalidKey: a value is neither text, a whole number nor a UUID.
        """
        return template.render(values, self._plain)

    # what ``key=`` and ``ignore=`` may be

    def _checked_ignore(self, ignore: Iterable[str]) -> frozenset[str]:
        if isinstance(ignore, str):
            raise InvalidKey(f"ignore= is a tuple of names, as in ignore=({ignore!r},)")
        ignored = frozenset(ignore)
        unknown = sorted(ignored.difference(self._signature.parameters))
        if unknown:
            raise InvalidKey(f"ignore= names {unknown[0]!r}, and {self.name}{self._signature} has no such parameter")
        return ignored

    def _checked_template(self, text: str) -> Template:
        template = Template(text, self._shown, f"key of {self.name}:")
        forgotten = [name for name in self._shown if name not in ("self", "cls")]
        if not template.fields and forgotten:
            raise InvalidKey(
                f"key of {self.name}: {text!r} is the same for every call: name a parameter in it, as in "
                f"'{text}:{{{forgotten[0]}}}', or say that none matters with ignore={tuple(forgotten)!r}"
            )
        return template

    def _checked_maker(self, key: Callable[..., Key]) -> Callable[..., Key]:
        if not callable(key) or inspect.iscoroutinefunction(key):
            raise TypeError(f"key= of {self.name} is text such as 'user:{{user_id}}', or a plain function of the same arguments")
        if self._ignored:
            raise InvalidKey(f"ignore= of {self.name} has no meaning beside a function as key=: the function decides")
        return key

    # text

    def _made(self, key: object) -> str:
        if isinstance(key, bool) or not isinstance(key, str | int | UUID):
            raise InvalidKey(f"key= of {self.name} returned a {type(key).__qualname__}: a key is text, a whole number or a UUID")
        return str(key)

    def _written(self, write: Callable[..., str], name: str, value: Any, *separators: str) -> str:
        try:
            if name == self._others:
                return f"[{self._mapping(name, value)}]"
            return write(value, *separators)
        except Unkeyable as error:
            raise self._refusal(name, value, str(error)) from None

    def _mapping(self, name: str, values: Mapping[str, Any]) -> str:
        try:
            return "{" + ",".join(f"{quoted(each)}:{text_of(values[each])}" for each in sorted(values)) + "}"
        except Unkeyable as error:
            raise self._refusal(name, values, str(error)) from None

    def _plain(self, name: str, value: Any, _separators: str) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | UUID):
            raise InvalidKey(
                f"a tag of {self.name} names {name!r}, which is a {type(value).__qualname__}: text, whole numbers and UUIDs can be part "
                "of a tag; for anything else give tags= a function of the result"
            )
        return str(value.value if isinstance(value, Enum) else value)

    def _refusal(self, name: str, value: object, why: str) -> InvalidKey:
        if name == "self":
            return InvalidKey(
                f"{self.name} is cached, and its key must tell instances apart ({why}): give {type(value).__qualname__} a {CACHE_KEY}, "
                "a value or a method; or say ignore=('self',) if all instances answer alike; or give key="
            )
        return InvalidKey(
            f"argument {name!r} of {self.name} cannot be part of a cache key: {why}; "
            f"leave it out with ignore=({name!r},) if it does not change the answer, or give key="
        )
