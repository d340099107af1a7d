"""A users API that shows Forebay at work: `make run`, or ``python -m forebay.demo``. The top of the house: nothing imports it."""
