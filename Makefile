# Set-up is part of every target that needs it, and does nothing when nothing is missing.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
# Extra words for the command behind a target: make run ARGS=--interactive, make unit ARGS="-k roles"
ARGS ?=
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup run test lint fmt unit integration acceptance bench bench-bus coverage lock wheels clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET" } /^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Virtual environment, packages, Java, Delta's JARs: once, the only step that needs a network
	@PYTHON="$(PYTHON)" infra/setup.sh

run: setup ## The governed pipeline, end to end, on a Delta-table bus with sample data
	@$(BIN)/tailrace demo $(ARGS)

test: setup lint ## Linters, import rules and every test: what continuous integration runs
	@infra/test.sh $(ARGS)

lint: setup ## Style, format, and who may import whom
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/lint-imports --no-logo >.venv/lint-imports.log 2>&1 || { cat .venv/lint-imports.log; exit 1; }

fmt: setup ## Format the code, and repair what the linter can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

unit: setup ## Tests that start no Java and no network
	@$(PYTEST) -q -m "not integration and not acceptance" tests/unit tests/contract tests/attacks $(ARGS)

integration: setup ## Tests that start Spark
	@$(PYTEST) -q -m "integration and not acceptance" tests/contract tests/integration tests/attacks $(ARGS)

acceptance: setup ## Tests that drive the command line as a person would
	@$(PYTEST) -q -m acceptance tests/acceptance $(ARGS)

bench: setup ## Latency and throughput, as ratios within one run
	@$(BIN)/tailrace bench $(ARGS)

bench-bus: setup ## The bus against PostgreSQL, Redis and Spark; as root it installs what is missing (ARGS=--quick)
	@$(BIN)/python -m tests.bench.compare $(ARGS)

coverage: setup ## Every test with coverage, worker processes included; below 80 % it fails
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage html --quiet
	@$(BIN)/coverage report --fail-under=80

lock: setup ## Compile requirements.txt from pyproject.toml (UPGRADE=1 takes newer versions)
	@infra/lock.sh

wheels: setup ## The client's and the server's wheel, into dist
	@$(BIN)/python infra/wheels.py

clean: ## Remove what tests and builds left; keeps .venv and .tailrace
	@rm -rf .coverage .coverage.* htmlcov build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis spark-warehouse metastore_db derby.log
	@find . -name .venv -prune -o -name .tailrace -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
