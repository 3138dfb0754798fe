# Developer commands; `make help` lists them. Set-up happens once per change of pyproject.toml, marked by stamp files.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Without the one that needs torch.
MODELS ?= $(filter-out %/digits,$(wildcard examples/models/*))
ARGS ?=
TESTS ?= $(wildcard tests/unit tests/contracts tests/conformance tests/budget)
CODE := src tests benchmarks examples scripts

.PHONY: help serve test check lint fix e2e chaos bench docs clean

help: ## list these commands
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

serve: $(VENV)/.serve ## set up without torch and serve the example models on http://127.0.0.1:8000
	@exec $(BIN)/inferd serve $(MODELS) $(ARGS)

test: $(VENV)/.dev $(VENV)/.kserve ## set up with every extra and run all tests
	@$(BIN)/pytest $(ARGS)

check: lint $(VENV)/.kserve ## the fast gate: format, lint, types, layers, changelog, fast tests
	@$(if $(strip $(TESTS)),$(BIN)/pytest -q -n 2 --dist loadfile $(TESTS) $(ARGS))

# Without a cache: whether an import is first party depends on files that a cached result knows nothing of.
lint: $(VENV)/.dev ## the part of the gate that runs no tests
	@$(BIN)/ruff format --check -q $(wildcard $(CODE))
	@$(BIN)/ruff check --no-cache -q $(wildcard $(CODE))
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/check_changelog.py

fix: $(VENV)/.dev ## format, and repair what the linter can
	@$(BIN)/ruff check --no-cache --fix -q $(wildcard $(CODE)) || true
	@$(BIN)/ruff format -q $(wildcard $(CODE))
	@$(BIN)/ruff check --no-cache -q $(wildcard $(CODE))

e2e: $(VENV)/.dev $(VENV)/.kserve ## real processes and real clients
	@$(BIN)/pytest tests/e2e $(ARGS)

chaos: $(VENV)/.dev ## failures under load
	@$(BIN)/pytest tests/chaos $(ARGS)

bench: $(VENV)/.dev ## every row of the benchmark table; ARGS="--only small --rounds 3" narrows it
	@$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(VENV)/.dev $(VENV)/.kserve ## run the documentation's code blocks and compare its generated pages
	@$(BIN)/pytest -q tests/docs $(ARGS)

clean: ## remove everything that the commands above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	rm -rf benchmarks/.models benchmarks/node/node_modules

$(VENV)/bin/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "creating $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV) && exit 0; \
	    rm -rf $(VENV); echo "$$python cannot make a virtual environment (on Debian: apt install python3-venv)" >&2; exit 1; \
	  fi; \
	done; \
	echo "inferd needs Python 3.11 or newer, and none was found; name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1

$(VENV)/.serve: pyproject.toml | $(VENV)/bin/python
	@echo "installing inferd with ONNX Runtime and scikit-learn"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[onnx,sklearn]'
	@touch $@

# Dependency groups need pip 25.1; the pip that comes with Python 3.11 is older.
$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing inferd with every extra, and the tools of the tests"
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[all]' --group dev
	@touch $@ $(VENV)/.serve

# Without bytecode: of the client's dependencies a test imports a small part.
$(VENV)/.kserve: pyproject.toml $(VENV)/.dev
	@echo "installing KServe's client into $(VENV)/kserve"
	@$(BIN)/python -m venv --without-pip $(VENV)/kserve
	@$(BIN)/python -m pip --python $(VENV)/kserve/bin/python install -q --disable-pip-version-check --no-compile --group kserve
	@touch $@
