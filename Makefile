# Every target sets itself up: a virtual environment in .venv from requirements.lock (exact versions, hashes).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APP ?= examples/flights
export PYTHONDONTWRITEBYTECODE := 1
export NUMBA_CACHE_DIR := $(CURDIR)/.tidemill/cache/numba

.PHONY: help demo bench bench-quick bench-models test check unit contract property integration e2e lint format types imports up doctor audit clean

help:  ## list every target
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Tidemill needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: install the package python3-venv"; exit 1; }
	@echo "Installing the locked Python packages into $(VENV) (first time: one to three minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
	@$(BIN)/python -m deploy.embedded.openmp
	@touch $@

demo: $(VENV)/.ready  ## the main job: a year of flights through the whole system, with report
	@$(BIN)/tidemill demo

test: $(VENV)/.ready  ## every test: static checks, unit, contract, property, integration, end to end
	@$(MAKE) --no-print-directory lint types imports
	@$(BIN)/python -m pytest tests

bench: $(VENV)/.ready  ## Tidemill and its peers on the same workloads (within an hour): benchmarks/README.md
	@$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.ready  ## Tidemill alone on the same workloads, one run (within eight minutes)
	@$(BIN)/python -m benchmarks --quick

bench-models: $(VENV)/.ready  ## what one more model costs, and 500 models in one application
	@$(BIN)/python -m benchmarks.scoring_cost
	@$(BIN)/python -m benchmarks.models_smoke

check: $(VENV)/.ready  ## fast checks without services: ruff, mypy, import-linter, unit tests
	@$(MAKE) --no-print-directory lint types imports unit

lint: $(VENV)/.ready  ## ruff
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . || { echo "run: make format"; exit 1; }

format: $(VENV)/.ready  ## rewrite the code in the project's format
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

types: $(VENV)/.ready  ## mypy --strict, tests included
	@$(BIN)/mypy

imports: $(VENV)/.ready  ## import-linter: the dependency rule
	@$(BIN)/lint-imports --no-cache >/tmp/.tidemill-imports.$$$$ 2>&1 || { cat /tmp/.tidemill-imports.$$$$; rm -f /tmp/.tidemill-imports.$$$$; exit 1; }; rm -f /tmp/.tidemill-imports.$$$$

unit contract property integration e2e: $(VENV)/.ready  ## one kind of tests
	@$(BIN)/python -m pytest tests/$@

up: $(VENV)/.ready  ## run an application live: make up APP=examples/flights
	@$(BIN)/tidemill up $(APP)

doctor: $(VENV)/.ready  ## what is installed, what is reachable, what is wrong
	@$(BIN)/tidemill doctor

clean:  ## remove the environment and all data of the project
	rm -rf $(VENV) .tidemill
