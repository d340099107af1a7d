"""A function whose results are cached, in both colours. It is called as before, and knows its own keys.

Only asynchronous functions are cached by an `AsyncCache`, and only plain ones by a `Cache`: a plain function in an event loop
would have to be awaited all of a sudden, and what it does would stop the loop.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, overload

from .recipe import Recipe, Typed, is_async
from .unstored import Unstored

__all__ = ["AsyncCached", "Cached"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

_CLASS: Final = "class"
_STATIC: Final = "static"


class _Decorated(Generic[P, R]):
    """What both colours share. As an attribute of a class it is bound to instances, or to the class, as the function would be."""

    _recipe: Recipe
    _kind: str  # of method: bound to its instance, to its class, or to nothing
    _bound: tuple[Any, ...]
    __wrapped__: Any

    def __init__(self, cache: Typed, function: Any, options: dict[str, Any]) -> None:
        kind = _CLASS if isinstance(function, classmethod) else _STATIC if isinstance(function, staticmethod) else ""
        plain = function.__func__ if kind else function
        self._check(plain)
        me: Any = self
        functools.update_wrapper(me, plain)  # first: it takes the attributes over, and the function may be one of these itself
        self._kind = kind
        self._bound = ()
        self._recipe = Recipe(cache, plain, options)

    def _check(self, function: Any) -> None:
        if not callable(function):
            raise TypeError(f"cached decorates a function, not {type(function).__name__}; options are named, as in cached(ttl='5m')")
        if inspect.isclass(function):
            raise TypeError(f"cached decorates a function, and {function.__qualname__} is a class: decorate what makes its instances")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator, which is empty once it was read: return a list instead")

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of the call with these arguments, without the cache's namespace.

        Raises:
            InvalidKey: an argument cannot be part of a key; the message names it and the remedies.
            TypeError: the function cannot be called so.
        """
        return self._recipe.key.of(self._bound + args, kwargs)

    def _bind(self, instance: Any, owner: Any) -> Self:
        if self._bound or self._kind == _STATIC:
            return self
        if self._kind == _CLASS:
            instance = type(instance) if owner is None else owner
        elif instance is None:
            return self
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._bound = (instance,)
        bound.__wrapped__ = MethodType(self.__wrapped__, instance)
        return bound

    def __reduce__(self) -> str | tuple[Any, ...]:
        """A function is what its name stands for, also in a copy and in another process."""
        return (getattr, (self._bound[0], self.__wrapped__.__name__)) if self._bound else str(self.__wrapped__.__qualname__)

    def __repr__(self) -> str:
        return f"<cached {self._recipe.name}>"


class AsyncCached(_Decorated[P, R]):
    """An ``async def`` function with a cache before it. Made by `AsyncCache.cached`."""

    def _check(self, function: Any) -> None:
        super()._check(function)
        if not (is_async(function) or is_async(inspect.unwrap(function))):
            raise TypeError(
                f"{getattr(function, '__qualname__', function)} is a plain function, and an AsyncCache is awaited: "
                "make it an async def, or use a cache of Forebay"
            )

    @property
    def uncached(self) -> Callable[P, Awaitable[R]]:
        """The function itself, without a cache."""
        return self.__wrapped__  # type: ignore[no-any-return]

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the cached result of the call; if there is none, make it, store what comes of it, and return that.

        Raises:
            InvalidKey: an argument cannot be part of a key; the message names it and the remedies.
            Exception: whatever the function raised, and what `get_or_set` raises.
        """
        if not self._recipe.applies(self._bound + args, kwargs):
            return await self.uncached(*args, **kwargs)
        return await self._get(self.key_for(*args, **kwargs), args, kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result of the call with these arguments; return whether there was one (or it was being made).

        Raises:
            InvalidKey: an argument cannot be part of a key.
            Unavailable: it may still be there.
        """
        return bool(await self._recipe.cache().delete(self.key_for(*args, **kwargs)))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Remove the result of the call with these arguments, make it anew, store and return it.

        What is stored was made after this began; if it cannot be made, nothing is stored, and the old result is gone.

        Raises:
            Unavailable: the old result may still be there; the function was not called.
            Exception: as for a call.
        """
        if not self._recipe.applies(self._bound + args, kwargs):
            return await self.uncached(*args, **kwargs)
        key = self.key_for(*args, **kwargs)
        await self._recipe.cache().delete(key)
        return await self._get(key, args, kwargs)

    async def _get(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        recipe, me = self._recipe, object()

        async def load() -> R:
            value = await self.__wrapped__(*args, **kwargs)
            return recipe.checked(value, me)  # type: ignore[no-any-return]

        tags = recipe.tags(self._bound + args, kwargs)
        try:
            return await recipe.cache().get_or_set(key, load, tags=tags, **recipe.options)  # type: ignore[no-any-return]
        except Unstored as carrier:
            return carrier.value_for(me)  # type: ignore[no-any-return]

    @overload  # by its class: a checker cannot tell a class method from a static one, and lets the arguments pass
    def __get__(self, instance: None, owner: type) -> AsyncCached[..., R]: ...
    @overload
    def __get__(self: AsyncCached[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> AsyncCached[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self._bind(instance, owner)


class Cached(_Decorated[P, R]):
    """A plain function with a cache before it. Made by `Cache.cached`."""

    def _check(self, function: Any) -> None:
        super()._check(function)
        if is_async(function):
            raise TypeError(
                f"{getattr(function, '__qualname__', function)} is asynchronous, and a Cache does not await: "
                "make it a plain def, or use a cache of AsyncForebay"
            )

    @property
    def uncached(self) -> Callable[P, R]:
        """The function itself, without a cache."""
        return self.__wrapped__  # type: ignore[no-any-return]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the cached result of the call; if there is none, make it, store what comes of it, and return that.

        Raises:
            InvalidKey: an argument cannot be part of a key; the message names it and the remedies.
            Exception: whatever the function raised, and what `get_or_set` raises.
        """
        if not self._recipe.applies(self._bound + args, kwargs):
            return self.uncached(*args, **kwargs)
        return self._get(self.key_for(*args, **kwargs), args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result of the call with these arguments; return whether there was one (or it was being made).

        Raises:
            InvalidKey: an argument cannot be part of a key.
            Unavailable: it may still be there.
        """
        return bool(self._recipe.cache().delete(self.key_for(*args, **kwargs)))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Remove the result of the call with these arguments, make it anew, store and return it.

        What is stored was made after this began; if it cannot be made, nothing is stored, and the old result is gone.

        Raises:
            Unavailable: the old result may still be there; the function was not called.
            Exception: as for a call.
        """
        if not self._recipe.applies(self._bound + args, kwargs):
            return self.uncached(*args, **kwargs)
        key = self.key_for(*args, **kwargs)
        self._recipe.cache().delete(key)
        return self._get(key, args, kwargs)

    def _get(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        recipe, me = self._recipe, object()

        def load() -> R:
            value = self.__wrapped__(*args, **kwargs)
            return recipe.checked(value, me)  # type: ignore[no-any-return]

        tags = recipe.tags(self._bound + args, kwargs)
        try:
            return recipe.cache().get_or_set(key, load, tags=tags, **recipe.options)  # type: ignore[no-any-return]
        except Unstored as carrier:
            return carrier.value_for(me)  # type: ignore[no-any-return]

    @overload  # by its class: a checker cannot tell a class method from a static one, and lets the arguments pass
    def __get__(self, instance: None, owner: type) -> Cached[..., R]: ...
    @overload
    def __get__(self: Cached[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Cached[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self._bind(instance, owner)
