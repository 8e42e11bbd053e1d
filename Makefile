# `make demo` and `make test` need Python 3.10 to 3.13 and nothing else; the first call installs into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test check lint types unit faults format lock reference pictures clean

help:
	@echo "make demo    install, then the whole job on a synthetic volume (deepscem-demo/)"
	@echo "make test    install what tests need, then all checks and tests"
	@echo "make check   lint, types and tests, without installing"
	@echo "make faults  ten times as many kills and power cuts as in the tests (some minutes)"
	@echo "make format  format the code"
	@echo "make lock    resolve constraints.txt anew"
	@echo "make reference, make pictures    write docs/ anew"

demo: $(VENV)/installed
	$(BIN)/deepscem-tui run demo --overwrite

test: $(VENV)/installed-dev
	$(MAKE) check

check: lint types unit

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

unit:
	$(BIN)/pytest -n auto

# Ten times as many kills as `make unit` has, and a power cut between any two writes.
faults: $(VENV)/installed-dev
	DEEPSCEM_TUI_FAULTS=10 $(BIN)/pytest -n auto tests/faults

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.10 --extra dev --extra gpu \
		--no-annotate --custom-compile-command "make lock" --quiet --upgrade --output-file constraints.txt

reference: $(VENV)/installed
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_formats.py

# From the folder that `make demo` leaves.
pictures: $(VENV)/installed
	$(BIN)/python docs/make_pictures.py deepscem-demo

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.10 to 3.13 is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
