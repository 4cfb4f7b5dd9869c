# Each target creates the environment it needs; the machine only needs python3 (3.11 or newer), make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test test-all check ui bench bench-gpu fuzz torture clean

train: $(VENV)/.installed  ## train psp1 on the built-in sample and keep the run in MLflow
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_WAIT_POLICY=passive mlflow run . --env-manager local -P model=psp1

test: $(VENV)/.tested  ## run the tests of everything that an edit can break
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m "not slow"

test-all: test  ## then those with real kills, servers, a browser, compilers, benchmarks
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m slow

check: $(VENV)/.checked  ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: $(VENV)/.installed  ## open the MLflow UI
	$(BIN)/protcli ui

bench: $(VENV)/.benched  ## time everything on the CPU, in ten minutes: one table (PROTCLI_REAL_DATA names a ProteinNet folder)
	OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/bench.py --device cpu --out benchmarks/results

bench-gpu: $(VENV)/.tested  ## time what runs on a GPU
	OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/bench.py --device cuda --out benchmarks/results

fuzz: SECONDS = 300
fuzz: $(VENV)/.tested  ## give protcli broken and hostile input for five minutes (SECONDS=60 for one)
	OMP_WAIT_POLICY=passive $(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS)

torture: $(VENV)/.tested  ## kill commands and servers, fill disks, and check that nothing is lost (an hour or more)
	OMP_WAIT_POLICY=passive $(BIN)/python tests/torture/torture.py

clean:  ## remove the environment (runs and data are kept)
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "protcli needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1): make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.tested: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

$(VENV)/.benched: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e '.[bench]'
	touch $@

$(VENV)/.checked: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@
