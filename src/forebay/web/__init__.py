"""Web frameworks: one file for each, and what they share in pure ASGI."""
