"""Tokens for APIs without cookies: refresh tokens in families, access tokens as JWTs, and the list of those that were revoked."""
