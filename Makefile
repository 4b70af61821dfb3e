# Everything runs inside .venv, made on first use and again when what it is made from changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.installed

.PHONY: demo install test test-slow check format bench clean

demo: $(READY)
	$(BIN)/esscher align demo

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow" -q

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow -q
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -q tests/property tests/core/test_properties.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/esscher bench

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
