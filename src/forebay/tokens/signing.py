"""Access tokens are JWTs, signed and read by PyJWT. The algorithm is chosen by the service, never by the token (RFC 8725)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import AccessTokenInvalid, EncodeError, SettingsError, UsageError

__all__ = ["OWN_CLAIMS", "Signer"]

_SHORTEST: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes of a key, RFC 7518, section 3.2
_PAIRS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LARGEST: Final = 8192  # characters of a token that is looked at
_REQUIRED: Final = ("sub", "sid", "jti", "iat", "exp")
OWN_CLAIMS: Final = frozenset({*_REQUIRED, "iss", "aud"})
"""What a token says beside the claims of the application."""


class Signer:
    """Signs with the newest of *keys*, which come oldest first, and reads what any of them signed.

    Raises:
        SettingsError: PyJWT is not installed, or a key or the algorithm cannot be used.
    """

    def __init__(
        self, keys: str | bytes | Sequence[str | bytes], algorithm: str, issuer: str | None, audience: str | None, leeway: float
    ) -> None:
        try:
            import jwt
        except ImportError as error:
            raise SettingsError("tokens are signed by PyJWT, which is not installed: pip install 'forebay[jwt]'") from error
        self._jwt = jwt
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        given = [keys] if isinstance(keys, str | bytes) else list(keys)
        if not given:
            raise SettingsError("signing_keys= is empty: give a key, or several, the newest last")
        self._readers: dict[str, Any] = {}
        self._signer: Any = None
        for key in given:
            self._kid, self._signer, reader = self._prepared(key)
            self._readers[self._kid] = reader
        self._options: dict[str, Any] = {"require": [*_REQUIRED, *(["iss"] if issuer else []), *(["aud"] if audience else [])]}

    def check(self, claims: Mapping[str, Any]) -> None:
        """See that *claims* could be signed.

        Raises:
            UsageError: a claim is Forebay's own, or there is no private key to sign with.
            EncodeError: a value is no JSON.
        """
        taken = [name for name in claims if name in OWN_CLAIMS or name == "nbf"]
        if taken:
            raise UsageError(f"claim {taken[0]!r} is set by Forebay: choose another name")
        if self._signer is None:
            raise UsageError("the newest of signing_keys= is a public key, which reads tokens and cannot sign them")
        try:
            json.dumps(dict(claims), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise EncodeError(f"a claim is no JSON: {type(error).__name__}; claims are text, numbers, lists and dicts of these") from None

    def sign(self, own: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """Return a token that says *claims*, which were checked, and what is Forebay's *own* to say."""
        payload = {**claims, **own}
        if self._issuer is not None:
            payload["iss"] = self._issuer
        if self._audience is not None:
            payload["aud"] = self._audience
        return self._jwt.encode(payload, self._signer, algorithm=self._algorithm, headers={"kid": self._kid})

    def read(self, text: object) -> dict[str, Any]:
        """Return what a token says.

        Raises:
            AccessTokenInvalid: it is not one of ours, was changed, or its time is over or has not come.
        """
        if not isinstance(text, str) or not 0 < len(text) <= _LARGEST or not text.isascii():
            raise AccessTokenInvalid("this is no access token")
        try:
            key = self._readers.get(self._jwt.get_unverified_header(text).get("kid", ""))
            if key is None:
                raise AccessTokenInvalid("this access token was signed with a key that is not known here")
            claims: dict[str, Any] = self._jwt.decode(
                text,
                key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                options=self._options,  # type: ignore[arg-type]
            )
        except self._jwt.ExpiredSignatureError:
            raise AccessTokenInvalid("the time of this access token is over") from None
        except (self._jwt.PyJWTError, TypeError, ValueError) as error:  # what it says is untrusted, its errors too
            raise AccessTokenInvalid(f"this is no access token of this service: {type(error).__name__}") from None
        if not all(isinstance(claims[name], str) for name in ("sub", "sid", "jti")):
            raise AccessTokenInvalid("this is no access token of this service")
        return claims

    def _prepared(self, key: str | bytes) -> tuple[str, Any, Any]:
        """Return the name of *key*, what signs with it if anything does, and what reads with it."""
        if not isinstance(key, str | bytes):
            raise SettingsError(f"a signing key is text or bytes, not {type(key).__name__}")
        raw = key.encode() if isinstance(key, str) else key
        if self._algorithm in _SHORTEST:
            if len(raw) < _SHORTEST[self._algorithm]:
                raise SettingsError(
                    f"a signing key has {len(raw)} bytes, and {self._algorithm} needs {_SHORTEST[self._algorithm]}: "
                    "take secrets.token_hex(32) or more, and keep it"
                )
            return hashlib.sha256(b"forebay signing key\0" + raw).hexdigest()[:16], raw, raw
        if self._algorithm not in _PAIRS:
            raise SettingsError(f"algorithm={self._algorithm!r} is unknown: use one of {', '.join([*_SHORTEST, *_PAIRS])}")
        try:
            from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

            prepared: Any = self._jwt.get_algorithm_by_name(self._algorithm).prepare_key(raw)
            public = prepared.public_key() if hasattr(prepared, "public_key") else prepared
            name = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (self._jwt.PyJWTError, NotImplementedError, ImportError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError(
                f"a signing key cannot be used for {self._algorithm}: give it as PEM, and install 'forebay[crypto]'"
            ) from error
        return hashlib.sha256(name).hexdigest()[:16], None if public is prepared else prepared, public

    def __repr__(self) -> str:
        return f"<Signer {self._algorithm}, {len(self._readers)} keys>"
