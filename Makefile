# `make demo`  installs into .venv and trains the three recipes on real data.
# `make test`  installs into .venv and runs every check and test.
# `make faults` kills, signals and corrupts at length, and writes what held to docs/faults.md.
# `make format` rewrites the sources as `make test` wants them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := plugins/torchplug-robust plugins/torchplug-second-order plugins/torchplug-tabular plugins/torchplug-zoo
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test faults install lint types layers format clean

demo: install
	$(BIN)/python recipes/linear_regression.py
	$(BIN)/python recipes/logistic_regression.py
	$(BIN)/python recipes/mlp.py

test: install lint types layers
	$(BIN)/python -m pytest -n 2 -q

faults: install
	FAULTS=all FAULTS_TABLE=docs/faults.md $(BIN)/python -m pytest -n 2 -q tests/faults

install: $(INSTALLED)

# The plugins are installed from their folders as anybody's package would be.
$(INSTALLED): pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PLUGINS:%=--editable ./%)
	touch $(INSTALLED)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

layers: install
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
