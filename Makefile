# make demo   sets up .venv when needed, then shows the shipped reasoner at work
# make test   sets up .venv when needed, then runs every check that a change must pass

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := $(wildcard raison/engine/kernels/*.[ch]pp)

.PHONY: help demo test clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# //p' Makefile

demo: $(VENV)/.demo-ready
	@$(BIN)/raison demo

test: $(VENV)/.test-ready
	@$(BIN)/ruff check --quiet . && echo "· ruff: no complaint"
	@$(BIN)/ruff format --check --quiet . && echo "· ruff format: nothing to change"
	@$(BIN)/mypy raison
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }
	@echo "· import-linter: all contracts kept"
	@$(BIN)/pytest -q

# With the checking tools goes all that the demo needs.
$(VENV)/.test-ready: pyproject.toml setup.py $(KERNELS)
	@$(call environment,dev)
	@touch $(VENV)/.demo-ready

$(VENV)/.demo-ready: pyproject.toml setup.py $(KERNELS)
	@$(call environment,report)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

define environment
set -e; began=$$(date +%s); \
echo "· making the environment in $(VENV): mostly PyTorch, a minute or two the first time"; \
test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV); \
$(BIN)/python -c 'import sys; sys.exit("raison needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'; \
$(BIN)/pip install --disable-pip-version-check -e '.[$(1)]' > $(VENV)/install.log 2>&1 \
	|| { tail -n 20 $(VENV)/install.log; echo "· the environment could not be made; all of it: $(VENV)/install.log"; exit 1; }; \
touch $@; \
echo "· environment ready ($(VENV), $$(( $$(date +%s) - began )) s)"
endef
