# make demo   everything at work, on this machine alone
# make test   linters, types, import rules and the whole suite

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-quick test-live lint format types imports unit oldest bench bench-report bench-fs soak clean

demo: $(VENV)/.all
	@exec $(BIN)/python -m jobcache_refresher.demo

test: lint types imports
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-quick test-live

# Two processes: most tests of the second wait for time to pass.
test-quick: $(VENV)/.dev
	$(BIN)/python -m pytest -q tests/unit tests/contract

test-live: $(VENV)/.dev
	$(BIN)/python -m pytest -q tests/faults tests/integration

lint: $(VENV)/.dev
	$(BIN)/ruff format --check client refresher tests
	$(BIN)/ruff check client refresher tests

format: $(VENV)/.dev
	$(BIN)/ruff format client refresher tests
	$(BIN)/ruff check --fix client refresher tests

types: $(VENV)/.dev
	$(BIN)/mypy client refresher tests

imports: $(VENV)/.dev
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -q tests/unit

oldest:
	$(MAKE) VENV=$(VENV)-oldest $(VENV)-oldest/.dev
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check $$($(VENV)-oldest/bin/python -m tests.oldest)
	$(VENV)-oldest/bin/python -m pytest -q tests/unit tests/contract

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench $(BENCH)

bench-report: $(VENV)/.dev
	$(BIN)/python -m tests.bench --jobs 100000 --million --json tests/bench/results/100000-jobs.json $(BENCH)
	$(BIN)/python -m tests.bench.publish tests/bench/results/100000-jobs.json

bench-fs: $(VENV)/.dev
	$(BIN)/python -m tests.bench.fs $(BENCH)

soak: $(VENV)/.dev
	$(BIN)/python -m tests.faults.oracle --minutes 30

clean:
	rm -rf $(VENV) $(VENV)-oldest .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist

$(VENV)/.all: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.all
