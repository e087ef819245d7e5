# make demo, make test: each does all the set-up it needs. make help lists the rest.
PYTHON ?= python3
TORCH ?= torch==2.13.0
# Optional dependencies of pyproject.toml, with commas: cluster.
EXTRAS ?=
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
# Processes that run the tests side by side; a test file stays in one, and the files that tests/conftest.py puts first
# begin first. Whole searches have Rays of their own: on two cores two at a time take two thirds of the time.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -q --durations=20 --durations-min=5
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo test check unit install install-test comet clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# Changes when another torch is asked for, and only then.
$(VENV)/.torch: FORCE
	@mkdir -p $(VENV)
	@echo '$(TORCH)' | cmp -s - $@ || echo '$(TORCH)' > $@
FORCE:

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) $(VENV)/.torch
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.$(if $(EXTRAS),[$(EXTRAS)])'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[test]'
	touch $@

# COMET's own environment, behind this one's torch and ray (workers/comet/environment.py).
$(VENV)-comet/mtpareto-comet.json: $(VENV)/.installed workers/comet/requirements.txt
	$(BIN)/python -m workers.comet.environment

install: $(VENV)/.installed ## create .venv and install the project

install-test: $(VENV)/.installed-test ## and what the tests need

comet: $(VENV)-comet/mtpareto-comet.json ## create .venv-comet, where COMET runs

demo: $(VENV)/.installed ## search the shipped model on the CPU, then print the frontier
	rm -rf runs/demo
	$(BIN)/mtpareto search data/demo.yaml

check: $(VENV)/.installed-test ## format, lint, types, import arrows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) tests/unit/orchestrator/test_driver_side.py

unit: $(VENV)/.installed-test ## the unit tests only
	$(PYTEST) $(SIDE_BY_SIDE) tests/unit

test: check comet ## everything: checks, unit tests, data tests, whole searches
	$(PYTEST) $(SIDE_BY_SIDE) tests/unit tests/data tests/long
	$(PYTEST) $(SIDE_BY_SIDE) tests/ray

clean: ## remove .venv, .venv-comet and runs
	rm -rf $(VENV) $(VENV)-comet $(VENV)-comet.lock runs
