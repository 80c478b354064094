# make journey    text to assistant on this machine, in minutes        make test    every quick check
# Both create .venv and install what they need; nothing else has to be there than Python 3.11 or newer.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: journey test test-all lint format bench clean

journey: $(VENV)/.installed
	$(BIN)/cairn journey $(ARGS)

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: $(VENV)/.installed-test
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	for file in $(filter-out benchmarks/measure.py benchmarks/train_peers.py benchmarks/shakespeare.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file --quick || exit 1; done

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/cairn/kernels/__pycache__
