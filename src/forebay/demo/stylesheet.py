"""How the page looks: light or dark as the system is, readable on a phone."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

STYLE: Final = """:root {
  color-scheme: light dark;
  --ink: #14211c; --paper: #f6f8f6; --card: #fff; --line: #d5ded9; --accent: #0b6b4f; --quiet: #55655d;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eeea; --paper: #101714; --card: #18211d; --line: #2c3a34; --accent: #3fbf95; --quiet: #9db0a7; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 40rem; margin: 0 auto; padding: 1rem; }
header { display: flex; gap: 1rem; padding: .5rem 0 1.5rem; }
header a { color: var(--accent); text-decoration: none; font-weight: 600; }
h1 { margin: 0 0 .25rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
.address, small { color: var(--quiet); }
.login { display: grid; gap: 1rem; max-width: 22rem; margin-top: 1rem; }
label { display: grid; gap: .25rem; }
label.check { display: flex; align-items: center; gap: .5rem; }
input[type=email], input[type=password] {
  font: inherit; padding: .5rem; border: 1px solid var(--line); border-radius: .4rem; background: var(--card); color: inherit;
}
button {
  font: inherit; padding: .5rem 1rem; border: 0; border-radius: .4rem; background: var(--accent); color: var(--paper); cursor: pointer;
}
button.quiet { background: none; border: 1px solid var(--line); color: inherit; white-space: nowrap; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.devices { list-style: none; padding: 0; margin: 0 0 1rem; }
.devices li { display: flex; justify-content: space-between; align-items: center; gap: 1rem; padding: .75rem; margin-bottom: .5rem;
  border: 1px solid var(--line); border-radius: .5rem; background: var(--card); overflow-wrap: anywhere; }
.here { color: var(--accent); font-size: .85rem; }
[role=status] { padding: .5rem .75rem; border-radius: .4rem; border: 1px solid var(--accent); background: var(--card); }
.error { border-color: #b3261e; }
"""
