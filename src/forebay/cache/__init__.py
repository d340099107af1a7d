"""Cached data in front of the database: entries, freshness, single flight, and the facades of both colours."""
