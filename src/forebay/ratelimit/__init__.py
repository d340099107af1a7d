"""Limits: how often something may happen, and how much of it at once, decided on the server's clock."""
