"""From a value to the payload of an entry and back: encode, compress, seal. Each step is there only if it was asked for.

Whatever bytes are given to `Coding.decode`, it returns a value of the type or raises one of `Coding.failures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, get_args, get_origin

from ..errors import DecodeError, EncodeError, SettingsError
from .codec import Codec, codec_for
from .fingerprint import fingerprint, type_name

if TYPE_CHECKING:
    from .compressed import Compressor
    from .sealed import Sealer

__all__ = ["MAX_BYTES", "Coding", "coding_for"]

T = TypeVar("T")

MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest encoded value, in bytes, unless ``max_bytes=`` says otherwise."""

_MOST: Final = 512 * 1024 * 1024
_CLOSED: Final = frozenset({"builtins", "datetime", "decimal", "uuid", "typing", "types", "collections", "collections.abc"})


class Coding(Generic[T]):
    """Bytes for values of one type, and values for bytes. Made by `coding_for`; may be used by any number of threads at once.

    Attributes:
        bare: the payload is plain JSON and nothing else.
        fingerprint: 8 bytes for codec, type's name and transforms; the same in every process.
        failures: everything that `decode` raises on damaged, foreign or hostile bytes. For types whose classes run code of
            their own when they are built (``__post_init__``, validators, ``_missing_``), that is any `Exception`.
        decode_bare: the decoder behind it, a plain C function: for payloads of a *bare* coding only.
        max_bytes: the largest encoded value, in bytes, before it is compressed and sealed.
    """

    __slots__ = ("_codec", "_compressor", "_label", "_sealer", "bare", "decode_bare", "failures", "fingerprint", "max_bytes")

    def __init__(
        self,
        codec: Codec[T],
        label: str,
        *,
        mark: bytes,
        failures: tuple[type[Exception], ...],
        compressor: Compressor | None,
        sealer: Sealer | None,
        bare: bool,
        max_bytes: int,
    ) -> None:
        self._codec = codec
        self._label = label
        self._compressor = compressor
        self._sealer = sealer
        self.bare: bool = bare
        self.fingerprint: bytes = mark
        self.failures: tuple[type[Exception], ...] = failures
        self.decode_bare: Callable[[bytes], T] = codec.decode
        self.max_bytes: int = max_bytes

    def encode(self, value: Any, name: str) -> bytes:
        """Return the payload for *value*, to be stored under the full Redis name *name*, sure that `decode` will read it.

        Raises:
            EncodeError: it would not come back as it went in, or its encoded form is larger than ``max_bytes``.
        """
        try:
            packed = self._codec.encode(value)
        except (EncodeError, MemoryError):
            raise
        except self.failures as error:  # of the type's own code, which runs when the codec reads back what it wrote
            raise EncodeError(
                f"a {type(value).__name__} for {name!r} cannot be stored: writing it and reading it back raised "
                f"{type(error).__name__} ({self._label}); return the declared type from the loader, or correct the type's own code"
            ) from error
        if len(packed) > self.max_bytes:
            raise EncodeError(
                f"a {type(value).__name__} for {name!r} takes {len(packed)} bytes, and max_bytes={self.max_bytes} is the limit: "
                "store less under one key, or raise max_bytes="
            )
        if self._compressor is not None:
            packed = self._compressor.pack(packed)
        if self._sealer is not None:
            packed = self._sealer.seal(packed, name)
        return packed

    def decode(self, payload: bytes, name: str) -> T:
        """Return the value of a *payload* that was found under the full Redis name *name*. Raises one of `failures`."""
        if self._sealer is not None:
            payload = self._sealer.unseal(payload, name)
        if self._compressor is not None:
            payload = self._compressor.unpack(payload)
        return self._codec.decode(payload)

    def explain(self, failure: Exception) -> str:
        """Say what was wrong with the bytes, without showing any of them."""
        if isinstance(failure, DecodeError):
            return str(failure)
        if isinstance(failure, self._codec.failures):
            return self._codec.explain(failure)
        return type(failure).__name__  # from the type's own code, which may have put the content into the message

    def __repr__(self) -> str:
        return f"Coding({self._label})"


def coding_for(
    type_: Any,
    *,
    codec: Literal["json", "msgpack"] = "json",
    compress_above: int | None = None,
    dictionary: bytes | None = None,
    seal_keys: Sequence[bytes | str] = (),
    max_bytes: int = MAX_BYTES,
) -> Coding[Any]:
    """Return the coding for *type_*; None stands for "JSON's own types" (with msgpack: and bytes).

    Args:
        codec: ``"json"``, or ``"msgpack"``: smaller, and bytes stay bytes, but nobody reads it with ``redis-cli``.
        compress_above: compress with zstd what is larger than so many bytes. Extra ``zstd``.
        dictionary: what values have in common, from `train_dictionary`; for many small values that are alike.
        seal_keys: encrypt with the last of these keys, and decrypt with any. From `new_sealing_key`. Extra ``crypto``.
        max_bytes: the largest encoded value, in bytes; nothing that is read expands beyond it either.

    Raises:
        SettingsError: an option is wrong, or the extra that it needs is not installed.
        EncodeError: the type cannot be stored.
    """
    if codec not in ("json", "msgpack"):
        raise SettingsError(f"codec={codec!r} is unknown: choose 'json' or 'msgpack'")
    if not _is_count(max_bytes) or not 1 <= max_bytes <= _MOST:
        raise SettingsError(f"max_bytes={max_bytes!r} is not a size: give a whole number of bytes, from 1 to {_MOST} (Redis' own limit)")
    if not isinstance(seal_keys, list | tuple):  # text and bytes are sequences too, of what would each be refused as a key
        raise SettingsError("seal_keys= is not a list or tuple of keys: give [key], oldest first")
    steps: list[str] = []
    sealer = None
    if (compressor := _compressor(compress_above, dictionary, max_bytes)) is not None:
        steps.append(compressor.kind)
    if seal_keys:
        from .sealed import Sealer

        steps.append(Sealer.kind)
    mark = fingerprint(codec, type_, steps)
    if seal_keys:
        sealer = Sealer(seal_keys, purpose=b"forebay cache value " + mark)
    if codec == "msgpack":
        from .msgpack import msgpack_codec_for

        chosen: Codec[Any] = msgpack_codec_for(type_)
    else:
        chosen = codec_for(type_)
    return Coding(
        chosen,
        " + ".join((codec, *steps)) + ("" if type_ is None else f", {type_name(type_)}"),
        mark=mark,
        failures=_failures(chosen, type_),
        compressor=compressor,
        sealer=sealer,
        bare=codec == "json" and not steps,
        max_bytes=max_bytes,
    )


def _compressor(above: int | None, dictionary: bytes | None, max_bytes: int) -> Compressor | None:
    if above is None:
        if dictionary is not None:
            raise SettingsError("dictionary= is given and nothing is compressed: give compress_above= too, as in compress_above=64")
        return None
    if not _is_count(above) or above < 0:
        raise SettingsError(f"compress_above={above!r} is not a size: give a whole number of bytes, or None to store as it is")
    from .compressed import Compressor

    return Compressor(above=above, dictionary=dictionary, max_bytes=max_bytes)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _failures(codec: Codec[Any], type_: Any) -> tuple[type[Exception], ...]:
    return (*codec.failures, DecodeError) if type_ is None or _is_closed(type_) else (Exception,)


def _is_closed(type_: Any) -> bool:
    """Whether only the decoder's own code runs when a value of *type_* is built, and no method of a class of the application."""
    if type_ is None or type_ is ...:
        return True
    origin = get_origin(type_)
    if origin is Literal:
        return True
    if origin is not None:  # Box[int] is built by Box, whatever it holds
        return _is_closed(origin) and all(map(_is_closed, get_args(type_)))
    return getattr(type_, "__module__", None) in _CLOSED
