# Two commands for a new user: `make demo` and `make test`. Each makes .venv if it is missing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SOURCES := pyproject.toml setup.py constraints.txt $(shell find csrc -type f 2>/dev/null)

.PHONY: demo test soak peers bench evidence lint clean

demo: $(VENV)/installed-demo
	$(BIN)/memfast demo --out memfast-demo --overwrite

# Beside other programs, threads that spin while they wait cost several times what they compute. Files of tests share the
# cores as processes of one thread each; tests of several threads ask for theirs.
test: export OMP_WAIT_POLICY ?= passive
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest memfast tests --numprocesses auto --dist loadfile

# What takes hours: kills, failing files, changed files, long lives, and the coverage of every interval measured again.
# `python -m tests.soak --help` runs a piece of it.
soak: export OMP_WAIT_POLICY ?= passive
soak: $(VENV)/installed-test
	$(BIN)/python -m pytest -m soak -s tests

# The suites of peers whose own pins no environment of ours fits: beside it, not in it.
peers: $(VENV)/installed-test
	$(BIN)/python -m pip install -q --no-deps --target build/peers -r tests/peers/requirements.txt
	PYTHONPATH=build/peers $(BIN)/python -m pytest tests/peers

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.neighbors

evidence: $(VENV)/installed-bench
	$(BIN)/python -m studies --quick --seeds 3 --jobs 2

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/installed-demo: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,test]'
	touch $@ $(VENV)/installed-demo

$(VENV)/installed-bench: $(VENV)/installed-test
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,test,bench]'
	touch $@

clean:
	rm -rf build dist *.egg-info $(VENV) memfast/*.so
