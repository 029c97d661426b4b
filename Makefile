# Everything runs in .venv, which the first target that needs it makes. `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= python3.11 python3

.PHONY: help install adb demo test test-all lint fmt bench zoo-report docs build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) ## make .venv with the library, every extra and the tools

$(READY): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/pip ]; then \
		found=; \
		for python in $(PYTHON); do \
			if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "error: none of '$(PYTHON)' is Python 3.11 or newer; install it, or name one: make PYTHON=/path/to/python install" >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $$found"; \
		"$$found" -m venv $(VENV); \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: install ## convert two networks to every format and check every file; search a network for this machine
	$(BIN)/python examples/demo.py
	$(BIN)/python examples/demo_search.py

adb: ## install Debian's adb for the tests of phones, where it is missing and that is possible
	@command -v adb >/dev/null || ! command -v apt-get >/dev/null || { \
		[ "$$(id -u)" = 0 ] && root= || root="sudo -n"; \
		install="$$root env DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y --no-install-recommends adb"; \
		$$install || { $$root timeout 120 apt-get update && $$install; }; \
	} || echo "adb cannot be installed here: the tests that need it are skipped" >&2

# One process per core, one thread in each; tests of a file share its fixtures.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --benchmark-disable

test: lint adb ## lint, then every test but the slow ones
	$(PYTEST) -m "not slow"

test-all: lint adb ## lint, then every test
	$(PYTEST)

lint: install ## style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_tables.py --check

fmt: install ## format the code and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## time the library against its references
	$(BIN)/python -m pytest --benchmark-only fbnet_zoo/benchmarks/bench_*.py

zoo-report: install ## convert, check and time every network in every format, an hour or more; goes on where it stopped
	$(BIN)/python -m fbnet_zoo.benchmarks.zoo_report --jobs 2
	$(BIN)/python docs/make_tables.py

docs: install ## write the generated pages of docs/ again
	$(BIN)/python docs/make_tables.py

build: install ## the source distribution and the wheel, in dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove what was built; .venv stays
	rm -rf build dist *.egg-info .benchmarks .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: web counts schema

web: .web/.ready ## install what the test of the web snippet needs, into .web

.web/.ready: tests/web/package.json
	mkdir -p .web
	cp $< .web/package.json
	npm install --prefix .web --no-package-lock --no-audit --no-fund --ignore-scripts
	@touch $@

counts: install ## NAME=<name>: count a network, write its definition in the canonical layout
	@test -n "$(NAME)" || { echo "error: say which: make counts NAME=fbnet_b" >&2; exit 1; }
	$(BIN)/python -m fbnet_zoo.maintain counts $(NAME)

schema: install ## write arch_defs/*.schema.json again, after a change of the records of definitions or search spaces
	$(BIN)/python -m fbnet_zoo.maintain schema
