# What one types while working on Skyclaw. Each target makes .venv when it is missing, and installs again when pyproject.toml has changed.

PYTHON ?= python3
PYTEST_ARGS ?= -q -n auto --dist loadfile
SEEDS ?= 2000
FIRST ?= 0
BIN := .venv/bin
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help demo test unit lint bench simulate

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(INSTALLED) ## show one job from the command line to its exit code, with real processes
	@$(BIN)/skyclaw demo

test: $(INSTALLED) ## run all tests; PYTEST_ARGS="tests/entrypoints -x" runs some
	$(BIN)/python -m pytest $(PYTEST_ARGS)

unit: $(INSTALLED) ## run the tests that start no processes: less than a minute
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/test_*.py tests/scheduling tests/hosting tests/trust tests/time_travel tests/api tests/cluster tests/services

lint: $(INSTALLED) ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

simulate: $(INSTALLED) ## search many simulated networks for violations; SEEDS=5000 FIRST=100000 says which
	$(BIN)/python -m tests.cluster.simulate --seeds $(SEEDS) --first $(FIRST)

bench: $(INSTALLED) ## measure
	$(BIN)/python -m tests.benchmarks

# Compatible mode puts this folder on the path as it is: other folders named skyclaw cannot hide it, and every start is faster.
$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@
