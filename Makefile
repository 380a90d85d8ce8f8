# SPDX-License-Identifier: Apache-2.0
# Every target sets itself up: Python 3.11 to 3.13, git and make are all that must be there.
# PYTHON=/path/to/python3 chooses the Python.

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test check lint types docs package bench soak constraints

BIN := .venv/bin
export PYTHON

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv and install everything into it (the other targets do it themselves)
	@scripts/setup.sh

demo: setup ## Train nightly on a local emulator with Airflow's real processes (KEEP=1 keeps the UI up)
	@$(BIN)/python scripts/demo.py $(if $(KEEP),--keep)

test: setup ## Run the tests
	scripts/run_tests.sh $(BIN)/python

check: lint types test docs package ## Run everything that CI runs

lint: setup ## Lint and check the format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## Check the types
	$(BIN)/mypy

docs: setup ## Build the docs into docs/_build/html; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -b html docs docs/_build/html

package: setup ## Build the sdist and the wheel, and try the wheel in a fresh environment
	scripts/check_package.sh

bench: setup ## Measure importing, tuning and watching beside the Google provider, the emulator, and the way to a GPU (WATCHING=full: up to 5,000 jobs)
	$(BIN)/python benchmarks/import_cost.py
	AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR GRPC_VERBOSITY=NONE PYTHONPATH=$(CURDIR)/scripts $(BIN)/python benchmarks/tuning_result.py
	$(BIN)/python benchmarks/emulator.py
	AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR PYTHONPATH=$(CURDIR)/scripts $(BIN)/python benchmarks/time_to_gpu.py
	PYTHONPATH=$(CURDIR):$(CURDIR)/scripts $(BIN)/python benchmarks/tuned_against_defaults.py
	PYTHONPATH=$(CURDIR)/scripts $(if $(WATCHING),scripts/with_postgresql.sh) \
		$(BIN)/python benchmarks/watching.py $(or $(WATCHING),100 --ends together)

soak: setup ## Run what takes longer: other Pythons, lowest versions, a browser (STEPS="..." chooses)
	scripts/soak.sh $(STEPS)

constraints: ## Fit constraints.txt to changed dependencies (UPGRADE=1 takes the newest of everything)
	scripts/refresh_constraints.sh $(if $(UPGRADE),--upgrade)
