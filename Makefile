# Every target does its own set-up: Python 3.11+, git and make are all a machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo examples test check bench format clean system

help: ## show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("deferlite needs Python 3.11 or newer here, not %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

demo: $(STAMP) ## a small project with two environments, built, run and served on 127.0.0.1:3337
	$(BIN)/deferlite demo

system: # node, chromium and bwrap where they are missing and may be installed (root and apt)
	@.ci/system

check: $(STAMP) ## types and style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

examples: $(STAMP) ## every example built, run and measured; ONLY=flask,poetry takes some
	$(BIN)/python -m tests.examples --only "$(ONLY)"

test: $(STAMP) system check ## all checks and all tests
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

bench: $(STAMP) ## the figures of this machine
	$(BIN)/python -m tests.benchmarks

format: $(STAMP) ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what make made
	rm -rf $(VENV) build dist *.egg-info
