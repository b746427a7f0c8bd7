# The commands of this project. `make` alone lists them.
# Needs Python >= 3.11 and make; everything else is installed into .venv, at the versions locked in requirements/.

PYTHON ?= python3
VENV   := .venv
# Tests mostly wait for processes: more workers than cores.
WORKERS ?= 4
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input -q

.DEFAULT_GOAL := help
.PHONY: help demo up kafka test test-long check format lint types unit lock clean schemas docs screenshots dist sbom

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime ## the whole way once on this machine: submit, ask, call back, prove it
	@$(BIN)/llmctl demo

up: $(VENV)/.runtime ## broker, fake provider and service in the foreground, until Ctrl-C
	@$(BIN)/llmctl up

kafka: $(VENV)/.dev ## Apache Kafka itself in the foreground, from Maven on a JDK; BROKERS=n PORT=n SECURE=1
	@$(BIN)/python -m tests.apache_kafka --brokers $(or $(BROKERS),1) --port $(or $(PORT),9092) $(if $(SECURE),--secure)

test: $(VENV)/.dev ## every promise once; a missing JDK, Maven or Node.js is skipped at home and an error where CI=true
	@rm -f build/figures.txt
	@$(BIN)/python -m pytest -n $(WORKERS)

test-long: $(VENV)/.dev ## drills at their promised length, every port and flow on Apache Kafka; K=kills picks some drills
	@rm -f build/figures.txt
	@$(BIN)/python -m pytest -m long $(if $(K),-k '$(K)')
ifndef K
	@$(BIN)/python -m pytest -n $(WORKERS) --brokers apache tests/ports tests/flow
	@$(BIN)/python -m pytest -n $(WORKERS) --brokers apache --queue kafka \
	  tests/flow/test_unhappy_ends.py tests/flow/test_operators.py
endif

check: $(VENV)/.dev lint types unit ## format, lint, types, architecture and unit tests: under a minute

lint: $(VENV)/.dev ## ruff: layout and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy --strict
	@$(BIN)/mypy

unit: $(VENV)/.dev ## the tests without I/O
	@$(BIN)/python -m pytest -q -n $(WORKERS) tests/architecture tests/contracts tests/unit

schemas: $(VENV)/.dev ## write fixtures/schemas anew, after a deliberate change of a contract or a route
	@$(BIN)/python -m tests.contracts.golden

docs: $(VENV)/.docs ## the documentation site into site/; a warning is an error
	@$(BIN)/python -m docs.builder

screenshots: $(VENV)/.docs ## take the pictures of docs/images anew, from the real program
	@$(BIN)/python -m docs.builder.screenshots

format: $(VENV)/.dev ## put the layout right
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: $(VENV)/.dev ## resolve the newest allowed versions into requirements/*.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-strip-extras --upgrade pyproject.toml --extra otel --extra rank --group build -o requirements/runtime.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-strip-extras --upgrade pyproject.toml --group dev -o requirements/dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-strip-extras --upgrade --group docs -c requirements/dev.lock -o requirements/docs.lock

dist: $(VENV)/.dev ## wheel and sdist into dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build

# What a user gets, with the extras of the image: installed from the wheel at the locked versions, by hash, and looked at.
sbom: dist ## beside them a bill of materials (CycloneDX) of what they install
	@rm -rf build/sbom
	@$(BIN)/uv venv -q build/sbom
	@$(BIN)/uv pip install -q --python build/sbom/bin/python -c requirements/runtime.lock "$$(ls dist/*.whl)[otel,rank]"
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o "$$(ls dist/*.whl | sed 's/-py3-none-any.whl/.cdx.json/')" build/sbom/bin/python

clean: ## remove what was built
	rm -rf $(VENV) dist build site .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

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

# Its versions agree with those of dev.lock, which it is resolved against.
$(VENV)/.docs: requirements/docs.lock $(VENV)/.dev
	@$(PIP) install --require-hashes -r requirements/docs.lock
	@touch $@
