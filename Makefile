# make demo   sets up .venv when needed, then shows the shipped reasoner at work
# make test   sets up .venv when needed, then runs every check that a change must pass
# make sanitize   the native step's tests under the address and undefined-behaviour sanitizers (gcc), in a copy

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := $(wildcard raison/engine/kernels/*.[ch]pp)

.PHONY: help demo test sanitize clean
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

SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g

sanitize: $(VENV)/.test-ready
	@set -e; copy=$$(mktemp -d); trap 'rm -rf $$copy' EXIT; \
	cp -r raison tests setup.py pyproject.toml README.md LICENSE $$copy; rm -f $$copy/raison/engine/kernels/*.so; sed -i s/-O3/-O1/ $$copy/setup.py; \
	python=$(abspath $(BIN))/python; cd $$copy; \
	CXX="g++ $(SANITIZERS)" CC="gcc $(SANITIZERS)" $$python setup.py build_ext --inplace > build.log 2>&1 || { tail build.log; exit 1; }; \
	for one in raison/engine/kernels/*.so; do nm -D $$one | grep -q __asan || { echo "$$one is not instrumented"; exit 1; }; done; \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so) $$(gcc -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$$copy $$python -m pytest -q -p no:cacheprovider tests/engine/test_filters.py tests/engine/test_native.py tests/engine/test_rounded.py tests/engine/test_speculate.py tests/engine/test_drafter.py tests/engine/test_turns.py

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
