# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.PHONY: setup demo check test test-slow test-lowest docs bench

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q torch==2.13.0  # the CPU build; plain torch brings CUDA
	$(BIN)/python -m pip install -q -e ".[dev,plot]"
	touch $@

demo: setup
	$(BIN)/lmsteer demo

check: setup
	$(BIN)/ruff format --check src tests benchmarks experiments
	$(BIN)/ruff check src tests benchmarks experiments
	$(BIN)/mypy

test: setup  # and which lines of src they run
	$(BIN)/pytest -m "not slow" -n auto --cov=lmsteer --cov-report=term:skip-covered

test-slow: setup
	$(BIN)/pytest -m slow

test-lowest: setup  # the oldest transformers that is promised, in an environment of its own
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install -q torch==2.13.0
	.venv-lowest/bin/python -m pip install -q -e ".[dev,plot]" transformers==4.57.0
	.venv-lowest/bin/pytest -m "not slow" -n auto

docs: setup  # the command line's reference (kept in the repository) and the API's pages
	$(BIN)/python -m typer lmsteer.cli utils docs --name lmsteer --output docs/cli.md
	$(BIN)/pdoc -o docs/api lmsteer

bench: setup
	$(BIN)/python -m benchmarks train
