# Works with GNU make 3.81 and newer. PYTHON=/path/to/python3.12 picks the Python; ARGS="-k name" goes to pytest.

VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
SUITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.DEFAULT_GOAL := help
.PHONY: help run test lint format settings bench-pacing bench-backlog chaos requirements clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.runtime ## Starts Tidegate with all that it needs; Ctrl-C stops it
	@$(BIN)/python -m embedded

test: $(VENV)/.dev ## Runs all tests; ARGS="tests/unit -k name" picks some
	@$(BIN)/python -m pytest -n 4 --dist loadfile $(ARGS)

lint: $(VENV)/.dev ## Checks style, format, types and imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## Formats the code and fixes what can be fixed safely
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

settings: $(VENV)/.runtime ## Shows every setting with its value
	@$(BIN)/python -m config

bench-pacing: $(VENV)/.dev ## Measures the pacing at the downstream; ARGS="--scenario steady --database sqlite"
	@$(BIN)/python -m benchmarks.pacing $(ARGS)

bench-backlog: $(VENV)/.dev ## Measures a release and a poll with a thousand and with a million jobs waiting
	@$(BIN)/python -m benchmarks.backlog $(ARGS)

chaos: $(VENV)/.dev ## Kills everything at random and counts what is lost; ARGS="--seed 1 --jobs 10000 --faults 100"
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

requirements: $(BIN)/python ## Locks the requirements anew, at the newest versions that pyproject.toml allows
	@test -x $(VENV)/uv/bin/uv || { $(BIN)/python -m venv $(VENV)/uv && $(VENV)/uv/bin/python -m pip install --quiet uv; }
	@set -e; cd $(VENV); \
	lock() { \
	  uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate "$$@"; \
	}; \
	header="# Locked by 'make requirements' from pyproject.toml; not to be edited."; \
	lock ../pyproject.toml > runtime.txt; \
	lock --group ../pyproject.toml:dev --constraint runtime.txt > dev.txt; \
	{ echo "$$header"; cat runtime.txt; } > ../requirements.txt; \
	{ echo "-r requirements.txt"; echo "$$header"; grep -vxFf runtime.txt dev.txt; } > ../requirements-dev.txt

clean: ## Removes the virtual environment and caches; the data folder stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for candidate in $(CANDIDATES); do \
	  if $$candidate -c '$(SUITS)' 2>/dev/null; then \
	    echo "Making $(VENV) with $$($$candidate --version)"; exec $$candidate -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "Tidegate needs Python 3.11, 3.12 or 3.13 with its venv module; none of these is one: $(CANDIDATES)." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1

# The stamps: a second run installs nothing.
$(VENV)/.runtime: requirements.txt | $(BIN)/python
	@echo "Installing what Tidegate needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt | $(BIN)/python
	@echo "Installing what Tidegate and its tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime
