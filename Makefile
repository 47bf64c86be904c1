# The front door. `make` lists what there is.
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
PY := $(BIN)/python
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes

# the environment of a deployment, for checks that only look
DEPLOYED := ENV_FILE= DEBUG=0 SITE_URL=https://example.org EMAIL_URL=smtp://localhost TRUSTED_PROXY_COUNT=1 \
  SECRET_KEY=$(shell $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))')

.DEFAULT_GOAL := help
.PHONY: help run test test-postgres test-browser chaos bench bench-peers lint ci lock messages clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/runtime .env  ## Set up and start the site and the cluster (PORT=8000)
	@$(PY) manage.py firstrun --port $(PORT)
	@PATH="$(CURDIR)/$(BIN):$$PATH" SITE_PORT=$(PORT) honcho start --env /dev/null --port $(PORT) || [ $$? -eq 130 ]  # 130: Ctrl-C

test: .venv/development  ## Set up and run the tests on SQLite; no browser, no PostgreSQL
	$(BIN)/pytest

test-postgres: .venv/development  ## The same tests on PostgreSQL: POSTGRES_URL=postgres://user@host:port/name
	DATABASE_URL=$${POSTGRES_URL:-postgres://postgres@127.0.0.1:5432/postgres} $(BIN)/pytest

test-browser: .venv/development  ## End to end in Chromium, on SQLite and on PostgreSQL (POSTGRES_URL); needs npm
	$(BIN)/pytest tests/e2e -m browser -n 0
	DATABASE_URL=$${POSTGRES_URL:-postgres://postgres@127.0.0.1:5432/postgres} \
	  $(BIN)/pytest tests/e2e -m browser -n 0 --ignore tests/e2e/test_accessibility.py  # pages look alike on both

chaos: .venv/development  ## Kill processes, hosts and databases under load, print the table (as root; CHAOS='--short')
	$(PY) -m tests.chaos $(CHAOS)

bench: .venv/development  ## Measure rates, latencies, costs on both databases (BENCH='drain pickup --database SQLite')
	@$(PY) -m tests.benchmarks $(BENCH)

bench-peers: .venv/development var/bench/peers/ready  ## The same beside other systems; needs POSTGRES_URL and REDIS_URL (BENCH='drain --systems celery-redis')
	@$(PY) -m tests.benchmarks.peers $(BENCH)

var/bench/peers/ready: tests/benchmarks/peers/requirements.txt
	@echo "Installing the other systems in var/bench/peers ..."
	@$(PYTHON) -m venv var/bench/peers
	@var/bench/peers/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

lint: .venv/development  ## Style, types, Django's own checks, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(DEPLOYED) $(BIN)/mypy .
	@$(DEPLOYED) $(PY) manage.py check --deploy --fail-level WARNING
	@$(DEPLOYED) $(PY) manage.py makemigrations --check --dry-run

ci:  ## All that has to pass, as CI runs it
	bash .ci/run

lock: .venv/development  ## Compile requirements*.in into pinned requirements*.txt
	for name in requirements requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $$name.in -o $$name.txt; \
	done

messages: .venv/development  ## Collect texts for translation and compile the catalogues (needs GNU gettext)
	ENV_FILE= DEBUG=1 SECRET_KEY=messages $(PY) manage.py makemessages --locale de --locale fr --no-obsolete --ignore 'var/*' --ignore '.venv/*' --ignore 'tests/*'
	ENV_FILE= DEBUG=1 SECRET_KEY=messages $(PY) manage.py compilemessages --ignore '.venv/*'

clean:  ## Remove the virtual environment and caches; var/ and .env stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis

.venv/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Steward needs Python 3.11 or newer; name one: make PYTHON=python3.11 ...")'
	@echo "Making the virtual environment in .venv ..."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/runtime: requirements.txt | .venv/pip
	@echo "Installing what runs (requirements.txt) ..."
	@$(PIP) -r requirements.txt
	@touch $@

.venv/development: requirements-dev.txt | .venv/pip
	@echo "Installing what tests need (requirements-dev.txt) ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@ .venv/runtime

.env:
	@umask 077; printf '%s\n' '# Variables of this checkout; the table of all is in README.md.' 'DEBUG=1' \
	  "SECRET_KEY=$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))')" > $@
