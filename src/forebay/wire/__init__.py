"""RESP3 on sockets: bytes, sessions, the asyncio multiplexer, the threads' pool, and the embedded server."""
