"""Runs the curl lines of docs and banner without curl, which a fresh machine may not have. An option it does not know is an error."""

from __future__ import annotations

import argparse
import shlex

import httpx


def curl(line: str) -> httpx.Response:
    """Do what the line ``curl ...`` says."""
    parser = argparse.ArgumentParser(prog="curl", exit_on_error=False)
    parser.add_argument("url")
    parser.add_argument("-i", "-s", "-si", "-is", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data")
    words = shlex.split(line, comments=True)
    assert words[0] == "curl", line
    options = parser.parse_args(words[1:])
    headers = dict(header.split(": ", 1) for header in options.headers)
    method = options.method or ("GET" if options.data is None else "POST")
    return httpx.request(method, options.url, headers=headers, content=options.data)
