# Every target sets itself up: a virtual environment in .venv from requirements.lock (exact versions, hashes).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APP ?= examples/flights
# Processes that run the tests side by side. More than processors: a test on real servers waits most of its time. Every third begins with the shortest.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 4 + (os.cpu_count() or 2)))')
# Threads of a training that spin while they wait would take the processors from the other workers.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(WORKERS)
export NUMBA_CACHE_DIR := $(CURDIR)/.tidemill/cache/numba
# Imports write byte code, whatever the environment says: dozens of processes import the same, and the installation compiles nothing.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo bench bench-quick bench-models test test-long kernels java-caches byte-code check static unit contract property integration e2e simulate avro-java hostile flood chaos soak run-lengths planted-faults promotions tables-up rolling-restart gate-years ab-years wheel wheel-demo lint \
	format types imports up mlflow doctor clean

help:  ## list every target
	@grep -hE '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Tidemill needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: install the package python3-venv"; exit 1; }
	@$(BIN)/python -m tidemill.deploy.install
	@$(BIN)/python -m tidemill.deploy.embedded.openmp
	@touch $@

demo: $(VENV)/.ready  ## the main job: a year of flights through the whole system, with report
	@$(BIN)/tidemill demo

# The static checks run beside the tests, in what time these leave, so that kernels and caches are ready sooner; their messages come at the end, where
# they are read. Types are checked of what is shipped and of the campaigns: those of the tests take a third of mypy's time, and `make static` has them.
test: $(VENV)/.ready  ## every test, and the static checks but for the tests' own types: unit, contract, property, integration, end to end
	@checks=$$(mktemp); nice -n 10 $(MAKE) --no-print-directory static TYPED="tidemill campaigns" >$$checks 2>&1 & checking=$$!; \
	trap 'kill $$checking 2>/dev/null; rm -f $$checks' EXIT; trap 'exit 130' INT TERM; \
	$(MAKE) --no-print-directory -j2 kernels java-caches byte-code && $(PYTEST) --durations 15 tests; tests=$$?; \
	wait $$checking; static=$$?; cat $$checks; \
	[ $$tests -eq 0 ] || echo "make test: TESTS FAILED (above)"; \
	[ $$static -eq 0 ] && echo "static checks passed: ruff, mypy (the tests' types: make static), import-linter" || echo "make test: STATIC CHECKS FAILED (above): make static"; \
	[ $$tests -eq 0 ] && [ $$static -eq 0 ]

test-long: $(VENV)/.ready  ## the long forms of what `make test` runs in a short one: all examples of the property tests, all cases
	@$(MAKE) --no-print-directory -j2 kernels java-caches byte-code
	@TIDEMILL_TEST_LONG=1 $(PYTEST) -m "long or hypothesis" tests

kernels: $(VENV)/.ready
	@$(BIN)/python -m tests.kernels

# Broker and registry start with half of the processor time from then on, those of `make demo` too. Without the caches they start as ever: what went
# wrong is printed, and a test of theirs says so.
java-caches: $(VENV)/.ready
	-@$(BIN)/python -m tidemill.deploy.embedded.java_training

# The workers import the same modules at the same time: each would rewrite their assertions.
byte-code: $(VENV)/.ready
	@$(BIN)/python -m tests.byte_code

bench: $(VENV)/.ready  ## Tidemill and its peers on the same workloads (within an hour): benchmarks/README.md
	@$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.ready  ## Tidemill alone on the same workloads, one run (within eight minutes)
	@$(BIN)/python -m benchmarks --quick

bench-models: $(VENV)/.ready  ## what one more model costs, and 500 models in one application
	@$(BIN)/python -m benchmarks.scoring_cost
	@$(BIN)/python -m benchmarks.models_smoke

MINUTES ?= 30
RATE ?= 2000
SEED ?= 1
LABELS ?= 20000000
run-lengths: $(VENV)/.ready  ## labels between false alarms of the loss verdict, and how soon it sees a change (minutes): make run-lengths LABELS=20000000
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.run_lengths --labels $(LABELS)

SEEDS ?= 20
planted-faults: $(VENV)/.ready  ## faults planted into a stream, each found as what it is in every seed (minutes): make planted-faults SEEDS=20
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.planted_faults --seeds $(SEEDS)

STATIONARY ?= 1000000
promotions: $(VENV)/.ready  ## promotions with faults in the stream and without: which of them do harm (an hour): make promotions SEEDS=20 STATIONARY=1000000
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.promotions --seeds $(SEEDS) --stationary-rows $(STATIONARY)

soak: $(VENV)/.ready  ## a long run with an overload in it, on real servers: make soak MINUTES=30 RATE=2000 SEED=1
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.soak --minutes $(MINUTES) --rate $(RATE) --seed $(SEED)

RECORDS ?= 200000
flood: $(VENV)/.ready  ## nothing but {} through the real ingestion, and a stream that it pauses: make flood RECORDS=200000
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.flood --records $(RECORDS)

YEARS ?= 1000
gate-years: $(VENV)/.ready  ## years of candidates that are worse by the gate's margin: how many pass, and what it sees: make gate-years YEARS=1000
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.gate_years --years $(YEARS) --seed $(SEED)

ab-years: $(VENV)/.ready  ## A/B tests of equal and of different versions, looked at every day: how many are decided, and rightly: make ab-years YEARS=1000
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.ab_years --years $(YEARS) --seed $(SEED)

rolling-restart: $(VENV)/.ready  ## two instances are restarted in turn under load: stop within 5 s, no pause above 3 s
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.rolling_restart --seed $(SEED)

check: $(VENV)/.ready  ## fast checks without services: ruff, mypy, import-linter, unit tests
	@$(MAKE) --no-print-directory static unit

static: $(VENV)/.ready  ## ruff, mypy, import-linter, over everything
	@$(MAKE) --no-print-directory lint types imports

lint: $(VENV)/.ready  ## ruff
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . || { echo "run: make format"; exit 1; }

format: $(VENV)/.ready  ## rewrite the code in the project's format
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

types: $(VENV)/.ready  ## mypy --strict, tests included
	@$(BIN)/mypy $(TYPED)

imports: $(VENV)/.ready  ## import-linter: the dependency rule
	@$(BIN)/lint-imports --no-cache >/tmp/.tidemill-imports.$$$$ 2>&1 || { cat /tmp/.tidemill-imports.$$$$; rm -f /tmp/.tidemill-imports.$$$$; exit 1; }; rm -f /tmp/.tidemill-imports.$$$$

contract integration e2e: java-caches
unit contract property integration e2e: $(VENV)/.ready  ## one kind of tests
	@$(MAKE) --no-print-directory kernels
	@$(PYTEST) tests/$@

FAULTS ?= 200000
simulate: $(VENV)/.ready  ## deterministic simulation with faults, goes on where it stopped: make simulate FAULTS=200000 SEED=1
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.simulate --faults $(FAULTS) --seed $(SEED)

N ?= 100000
BROKERS ?= 1
hostile: $(VENV)/.ready  ## hostile messages of every kind in good traffic, live: make hostile N=100000 SEED=1
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.hostile --messages $(N) --seed $(SEED)

chaos: FAULTS := 1000
chaos: $(VENV)/.ready  ## real faults on real processes and servers, goes on where it stopped: make chaos FAULTS=1000 SEED=1 BROKERS=3
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.chaos --faults $(FAULTS) --seed $(SEED) --brokers $(BROKERS) $(if $(KINDS),--kinds "$(KINDS)")

PAIRS ?= 20000
avro-java: $(VENV)/.ready  ## schema resolution held to Java's Avro, jars fetched once: make avro-java PAIRS=20000 SEED=1
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.java_avro --pairs $(PAIRS) --seed $(SEED)

wheel: $(VENV)/.ready  ## the wheel and the versions it was tested with, in dist/
	@$(BIN)/python -m tidemill.deploy.wheel

tables-up: $(VENV)/.ready  ## nine tables from a file to a live answer, as the guide says, each on servers of its own
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.tables_up

DAYS ?= 45
wheel-demo: $(VENV)/.ready  ## the wheel, installed into an empty environment outside of the repository, runs the demo: make wheel-demo DAYS=45
	@PYTHONPATH=$(CURDIR) $(BIN)/python -m campaigns.wheel_demo --days $(DAYS)

up: $(VENV)/.ready  ## run an application live: make up APP=examples/flights
	@$(BIN)/tidemill up $(APP)

mlflow: $(VENV)/.ready  ## MLflow's own pages on the trainings of the last run: make mlflow APP=examples/flights
	@$(BIN)/tidemill mlflow $(APP)

doctor: $(VENV)/.ready  ## what is installed, what is reachable, what is wrong
	@$(BIN)/tidemill doctor

clean:  ## remove the environment and all data of the project
	rm -rf $(VENV) .tidemill
