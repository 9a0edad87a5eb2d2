# Works with GNU make 3.81 and newer. PYTHON=/path/to/python3.12 picks the Python; ARGS="-k name" goes to pytest.

VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/uv/bin/uv
QUICK := tests/conformance tests/intake tests/jobs
SBOM := $(VENV)/sbom/bin/cyclonedx-py
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
SUITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.DEFAULT_GOAL := help

# A PYTHON that is not the one of the .venv that is there would do nothing.
ifneq ($(PYTHON),)
ifneq ($(wildcard $(BIN)/python),)
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
WHICH := import sys; print(sys.base_prefix, sys.version.split()[0])
ASKED := $(shell $(PYTHON) -c '$(WHICH)')
THERE := $(shell $(BIN)/python -c '$(WHICH)')
ifneq ($(ASKED),$(THERE))
$(error $(VENV) is of Python $(THERE), and PYTHON=$(PYTHON) is $(or $(ASKED),none); `make clean` first, or leave PYTHON out)
endif
endif
endif
endif
.PHONY: help run test test-long test-quick test-stack lint format secrets metrics-key roll sql flower demo bench bench-pacing bench-backlog bench-waiting bench-price bench-lanes bench-fair chaos simulate requirements wheels sbom clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.runtime ## Starts Tidegate with all that it needs; Ctrl-C stops it
	@$(BIN)/python -m embedded

PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations 20 --durations-min 5

test: $(VENV)/.dev ## Runs all tests but the long ones; ARGS="tests/unit -k name" picks some
	@$(PYTEST) -m "not long" $(ARGS)

test-long: $(VENV)/.dev ## Runs the long tests: stacks that are killed, outages that are waited out, generated requests
	@$(PYTEST) -m long $(ARGS)

test-quick: $(VENV)/.dev ## Runs within a minute what tells most: all unit tests, and the core on SQLite
	@$(PYTEST) -m "not long and not nodes and not postgresql" tests/unit $(QUICK) $(ARGS)

test-stack: $(VENV)/.dev ## Runs the compose stack end to end, and the workers' tests in containers; needs a Docker engine
	@status=0; \
	$(BIN)/python -m pytest tests/stack --timeout 900 $(ARGS) || status=1; \
	CELERY_NODES=docker $(BIN)/python -m pytest -n 2 --dist loadfile -m nodes || status=1; \
	exit $$status

lint: $(VENV)/.dev ## Checks style, format, types and imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@PYTHONPATH=client $(BIN)/lint-imports

format: $(VENV)/.dev ## Formats the code and fixes what can be fixed safely
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

secrets: ## Makes the passwords of the compose stack, in secrets/; those that are there stay
	@sh config/stack/make-secrets.sh

metrics-key: ## Makes the key that the Prometheus of the compose stack reads /metrics with; the stack must be running
	@sh config/stack/make-metrics-key.sh

roll: ## Replaces the containers of the compose stack one by one, after a build or a change of a setting
	@sh config/stack/roll.sh

sql: $(VENV)/.runtime ## Shows every prepared statement as plain SQL, for both databases where they differ
	@$(BIN)/python -m tidegate.database

flower: $(VENV)/.flower ## Starts Flower, a page of workers and tasks, beside the gateway that runs; ARGS="--port=5556"
	@$(BIN)/python -m embedded.flower $(ARGS)

demo: $(VENV)/.demo ## Sends 300 requests in one burst: straight at an API (most are refused) and through Tidegate (none is)
	@$(BIN)/python -m demo $(ARGS)

bench: $(VENV)/.dev ## Measures the speed against what people would use instead, in half an hour; ARGS="--quick" to try
	@$(BIN)/python -m benchmarks $(ARGS)

bench-pacing: $(VENV)/.dev ## Measures the pacing at the downstream; ARGS="--scenario steady --database sqlite"
	@$(BIN)/python -m benchmarks.pacing $(ARGS)

bench-backlog: $(VENV)/.dev ## Measures a release and a poll with a thousand and with a million jobs waiting
	@$(BIN)/python -m benchmarks.backlog $(ARGS)

bench-waiting: $(VENV)/.dev ## Measures what 1,000 held requests cost and how fast they are told
	@$(BIN)/python -m benchmarks.waiting $(ARGS)

bench-price: $(VENV)/.dev ## Measures what a job costs beside another revision; ARGS="--beside HEAD~1"
	@$(BIN)/python -m benchmarks.price $(ARGS)

bench-lanes: $(VENV)/.dev ## Measures what many lanes, many schedulers and long transactions cost; ARGS="--part held"
	@$(BIN)/python -m benchmarks.lanes $(ARGS)

bench-fair: $(VENV)/.dev ## Shows whether partitions get what they are promised while processes are killed; ARGS="--part bound"
	@$(BIN)/python -m benchmarks.fair $(ARGS)

chaos: $(VENV)/.dev ## Kills everything at random and counts what is lost; ARGS="--seed 1 --jobs 10000 --faults 100"
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

simulate: $(VENV)/.dev ## Simulates a cluster seed by seed and shrinks what breaks a rule; ARGS="--seeds 1-1000", "--planted"
	@$(BIN)/python -m tests.simulation $(ARGS)

requirements: $(UV) ## Locks the requirements anew with their hashes, at the newest versions that pyproject.toml allows
	@set -e; cd $(VENV); \
	lock() { \
	  uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --generate-hashes "$$@"; \
	}; \
	beyond_runtime() { \
	  awk '/^[^ ]/ { line = $$0 } FILENAME == "runtime.txt" { locked[line] } !(line in locked)' runtime.txt "$$1"; \
	}; \
	header="# Locked by 'make requirements' from pyproject.toml; not to be edited."; \
	application="../pyproject.toml --group ../pyproject.toml:application"; \
	lock $$application > runtime.txt; \
	lock $$application --group ../pyproject.toml:stack --constraint runtime.txt > stack.txt; \
	lock $$application --group ../pyproject.toml:sqs --constraint runtime.txt > sqs.txt; \
	lock --group ../pyproject.toml:dev --constraint runtime.txt > dev.txt; \
	lock --group ../pyproject.toml:demo --constraint dev.txt > demo.txt; \
	{ echo "$$header"; cat runtime.txt; } > ../requirements.txt; \
	for name in stack sqs demo dev; do \
	  { echo "-r requirements.txt"; echo "$$header"; beyond_runtime $$name.txt; } > ../requirements-$$name.txt; \
	done

wheels: $(VENV)/.runtime ## Builds the wheels of the two libraries in dist/; WHEELS=/another/folder
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(or $(WHEELS),dist) . ./client

sbom: $(SBOM) ## Lists the parts, packages and images with their exact versions, as CycloneDX in sbom.json
	@PYTHONWARNINGS=ignore $(SBOM) requirements --output-reproducible --pyproject pyproject.toml \
	  -o $(VENV)/packages.json requirements-stack.txt
	@$(BIN)/python config/stack/sbom.py $(VENV)/packages.json > sbom.json
	@echo "sbom.json lists $$(grep -c '"purl":' sbom.json) packages and images"

clean: ## Removes the virtual environment and caches; the data folder stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
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

# What locks the requirements, in a place of its own: none of it is Tidegate's.
$(UV): | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/uv && $(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

# What writes the list of parts, likewise.
$(SBOM): | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/sbom
	@$(VENV)/sbom/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7.5,<8'

# The stamps: a second run installs nothing. The client is installed as it lies here; it brings the command `tidegate`.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.runtime: requirements.txt client/pyproject.toml | $(BIN)/python
	@echo "Installing what Tidegate needs into $(VENV)"
	@$(PIP_INSTALL) -r requirements.txt
	@$(PIP_INSTALL) --no-deps --editable client
	@touch $@

# The runtime and what draws the picture.
$(VENV)/.demo: $(VENV)/.runtime requirements-demo.txt
	@$(PIP_INSTALL) -r requirements-demo.txt
	@touch $@

# The runtime and what the image has beside: Flower, OpenTelemetry.
$(VENV)/.flower: $(VENV)/.runtime requirements-stack.txt
	@$(PIP_INSTALL) -r requirements-stack.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt client/pyproject.toml | $(BIN)/python
	@echo "Installing what Tidegate and its tests need into $(VENV)"
	@$(PIP_INSTALL) -r requirements-dev.txt
	@$(PIP_INSTALL) --no-deps --editable client
	@touch $@ $(VENV)/.runtime
