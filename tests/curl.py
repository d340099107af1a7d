"""Runs the curl lines of docs and banner without curl, which a fresh machine may not have. An option it does not know is an error."""

from __future__ import annotations

import argparse
import shlex

import httpx


def curl(line: str, jars: dict[str, httpx.Cookies] | None = None) -> httpx.Response:
    """Do what the line ``curl ...`` says. Files of cookies are *jars*."""
    parser = argparse.ArgumentParser(prog="curl", exit_on_error=False)
    parser.add_argument("url")
    parser.add_argument("-i", "-s", "-si", "-is", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data")
    parser.add_argument("-b", dest="cookies")
    parser.add_argument("-c", dest="jar")
    words = shlex.split(line, comments=True)
    assert words[0] == "curl", line
    options = parser.parse_args(words[1:])
    headers = dict(header.split(": ", 1) for header in options.headers)
    method = options.method or ("GET" if options.data is None else "POST")
    jars = {} if jars is None else jars
    with httpx.Client(cookies=jars.get(options.cookies)) as client:
        answer = client.request(method, options.url, headers=headers, content=options.data)
        if options.jar:
            jars[options.jar] = httpx.Cookies(client.cookies)
    return answer
