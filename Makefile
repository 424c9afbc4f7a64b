# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3.11
BIN := .venv/bin
DATA ?= dataset

# The tests start hundreds of processes, which shall not compile the same sources each
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve check test bench clean

help:
	@echo "make serve   answer on http://127.0.0.1:8000/graphql, with a demo dataset if there is none"
	@echo "make check   format, types, import contracts and the fast tests"
	@echo "make test    make check, and the slow tests (browser, real servers)"
	@echo "make bench   measure, side by side; needs wrk (Debian: apt-get install wrk)"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

$(DATA)/activities.jsonl: | .venv/installed
	$(BIN)/jobrec demo --data $(DATA)

serve: .venv/installed $(DATA)/activities.jsonl
	$(BIN)/jobrec serve --data $(DATA)

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

test: check
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m bench

clean:
	rm -rf .venv .jobrec dataset
