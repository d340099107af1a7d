"""How the results of one function are cached: under which key, as which type, when, and with which tags. Both colours follow it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Annotated, Any, Final, Protocol, Self, TypeVar, get_args, get_origin, get_type_hints

from msgspec import UNSET

from ..errors import EncodeError
from .callkey import CallKey, KeyMaker
from .freshness import Freshness, FreshnessOptions
from .loading import Tags
from .unstored import Unstored

__all__ = ["CachedOptions", "Recipe", "Typed", "is_async"]


class Typed(Protocol):
    """What a recipe asks of a cache."""

    @property
    def namespace(self) -> str:
        """The namespace, without the bay's prefix."""

    def typed(self, type: Any) -> Self:
        """Return this cache for values of another type."""


class CachedOptions(FreshnessOptions, total=False):
    """What `cached` can be told: the options of a call to `get_or_set`, and these.

    Attributes:
        key: a template that names parameters, such as ``"user:{user_id}"``, or a function of the same arguments that returns the
            key; None: the function's name and all arguments.
        ignore: names of parameters that do not change the result, such as a database session: they are left out of the key.
        condition: a function of the same arguments; where it says False the cache is neither read nor written.
        unless: a function of the result; where it says True the result is returned and not stored.
        type: the type of the values, instead of the function's return annotation; None: JSON's own types.
        tags: a list, whose tags may name parameters as in ``"team:{team_id}"``; or a function of the result.
    """

    key: KeyMaker | None
    ignore: Iterable[str]
    condition: Callable[..., object] | None
    unless: Callable[[Any], object] | None
    type: Any
    tags: Tags


_OWN: Final = CachedOptions.__annotations__.keys() - FreshnessOptions.__annotations__.keys()


class Recipe:
    """How results of *function* are cached in *cache*."""

    def __init__(self, cache: Typed, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        """Check all that can be checked before the first call.

        Raises:
            InvalidKey, InvalidDuration, SettingsError: an option cannot be used.
            EncodeError: values of the type cannot be stored.
            TypeError: there is no such option, or one is of the wrong kind.
        """
        self.key = CallKey(function, options.get("key"), options.get("ignore", ()))
        self.name = self.key.name
        self.condition: Callable[..., object] | None = _checked_function("condition", options.get("condition"), self.name)
        self.unless: Callable[[Any], object] | None = _checked_function("unless", options.get("unless"), self.name)
        self.options = {name: value for name, value in options.items() if name not in _OWN}
        # soft_timeout depends on what the cache itself keeps, and is checked with that
        checked: Any = {name: value for name, value in self.options.items() if name != "soft_timeout"}
        Freshness().having(checked)
        tags: Tags = options.get("tags", ())
        self._of_result: Callable[[Any], Iterable[str]] | None = tags if callable(tags) else None
        self._templates = () if callable(tags) else tuple(self.key.tag_templates(tags))
        self._lock = threading.Lock()
        self._base = cache
        self._function = function
        self._type = options.get("type", UNSET)
        self._cache: Typed | None = None
        with suppress(NameError):  # the annotation names what is defined further down: the first call looks at it again
            self.cache()

    def cache(self) -> Any:
        """Return the cache for the function's type of values.

        Raises:
            EncodeError: values of the type cannot be stored.
            NameError: the return annotation cannot be read.
        """
        if self._cache is None:
            with self._lock:
                if self._cache is None:
                    self._cache = self._typed()
        return self._cache

    def tags(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tags:
        """Return the tags of one call.

        Raises:
            InvalidKey: an argument cannot be part of a tag.
        """
        if self._of_result is not None:
            return self._of_result
        if not self._templates:
            return ()
        values = self.key.arguments(args, kwargs)
        return [self.key.tag(template, values) for template in self._templates]

    def applies(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether this call goes through the cache."""
        return self.condition is None or bool(self.condition(*args, **kwargs))

    def checked(self, value: Any, owner: object) -> Any:
        """Return what a loader may return, or raise `Unstored`."""
        if self.unless is not None and self.unless(value):
            raise Unstored(value, owner, self.name)
        return value

    def _typed(self) -> Typed:
        type_ = self._type
        if type_ is UNSET:
            type_ = _returned(self._function, self.name)
            if type_ is UNSET:
                return self._base
        try:
            return self._base.typed(type_)
        except EncodeError as error:
            raise EncodeError(f"{self.name} is cached as what it returns: {error}; correct the annotation, or give type=") from None


def is_async(function: Any) -> bool:
    """Whether calling *function* gives an awaitable, as far as that can be told."""
    call = getattr(function, "__call__", None)  # noqa: B004 - the method, to look at
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _checked_function(option: str, function: Any, name: str) -> Any:
    if function is not None and (not callable(function) or is_async(function)):
        raise TypeError(f"{option}= of {name} is a plain function, whose answer is there at once, not {type(function).__name__}")
    return function


def _returned(function: Any, name: str) -> Any:
    """Return the type of what *function* returns, in the end; UNSET if its annotation does not tell."""
    plain = inspect.unwrap(function)
    annotation = getattr(plain, "__annotations__", {}).get("return", UNSET)
    if annotation is UNSET:
        return UNSET
    alone = SimpleNamespace(__annotations__={"return": annotation})  # its other annotations may name what exists for checkers only
    try:
        hint = get_type_hints(alone, globalns=getattr(plain, "__globals__", {}), include_extras=True)["return"]
    except (NameError, AttributeError) as error:
        raise NameError(
            f"the return annotation {annotation!r} of {name} cannot be read ({error}): import what it names outside TYPE_CHECKING, "
            "define it in the module, or give type="
        ) from None
    if not inspect.iscoroutinefunction(plain) and get_origin(hint) in (Awaitable, Coroutine):
        hint = get_args(hint)[-1]
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return UNSET if bare is Any or isinstance(bare, TypeVar) else hint
