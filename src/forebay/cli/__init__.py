"""The command line: `forebay`, or ``python -m forebay.cli``. At the top of the house, beside the demo: nothing imports it."""
