# The commands of this project. `make` alone lists them.
# Needs Python >= 3.11 and make; everything else is installed into .venv, at the versions locked in requirements/.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input -q

.DEFAULT_GOAL := help
.PHONY: help demo up kafka test chaos check format lint types unit lock clean

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime ## the whole way once on this machine: submit, ask, call back, prove it
	@$(BIN)/llmctl demo

up: $(VENV)/.runtime ## broker, fake provider and service in the foreground, until Ctrl-C
	@$(BIN)/llmctl up

kafka: $(VENV)/.dev ## Apache Kafka itself in the foreground, from Maven on a JDK; BROKERS=n PORT=n SECURE=1
	@$(BIN)/python -m tests.apache_kafka --brokers $(or $(BROKERS),1) --port $(or $(PORT),9092) $(if $(SECURE),--secure)

test: $(VENV)/.dev ## every test; a missing component is skipped at home and an error where CI=true
	@$(BIN)/python -m pytest

chaos: $(VENV)/.dev ## kill the service 1,000 times under load and judge; CYCLES=n SEED=n
	@$(BIN)/python -m tests.process.crashes --cycles $(or $(CYCLES),1000) $(if $(SEED),--seed $(SEED))

check: $(VENV)/.dev lint types unit ## format, lint, types, architecture and unit tests: under a minute

lint: $(VENV)/.dev ## ruff: layout and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy --strict
	@$(BIN)/mypy

unit: $(VENV)/.dev ## the tests without I/O
	@$(BIN)/python -m pytest -q tests/architecture tests/contracts tests/unit

format: $(VENV)/.dev ## put the layout right
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: $(VENV)/.dev ## resolve the newest allowed versions into requirements/*.lock
	@$(PIP) install uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-strip-extras --upgrade pyproject.toml --group build -o requirements/runtime.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-strip-extras --upgrade pyproject.toml --group dev -o requirements/dev.lock

clean: ## remove what was built
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "setting up $(VENV) (once) ..." >&2
	@$(PYTHON) -m venv $(VENV)

# The lock decides every version, by hash; the project itself is linked in without resolving anything.
$(VENV)/.runtime: requirements/runtime.lock pyproject.toml | $(VENV)/bin/python
	@$(PIP) install --require-hashes -r requirements/runtime.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(VENV)/bin/python
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.runtime
