# Everything runs in .venv, which is created by the first target that needs it. `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN = $(VENV)/bin
READY := $(VENV)/.ready
VERSIONS := -c constraints.txt
PYTHON ?= python3.11 python3

.PHONY: help install adb demo test test-all test-newest lint fmt bench zoo-report docs build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) ## create .venv with the library, all extras and the tools

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
	$(BIN)/python -m pip install --disable-pip-version-check $(VERSIONS) -e '.[all,dev]'
	@touch $@

demo: install ## convert two networks to every format and check the files; search for a network for this machine
	$(BIN)/python examples/demo.py
	$(BIN)/python examples/demo_search.py

adb: ## install Debian's adb, which the phone tests need, if it is missing
	@command -v adb >/dev/null || ! command -v apt-get >/dev/null || { \
		[ "$$(id -u)" = 0 ] && root= || root="sudo -n"; \
		install="$$root env DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y --no-install-recommends adb"; \
		$$install || { $$root timeout 120 apt-get update && $$install; }; \
	} || echo "adb cannot be installed here; the tests that need it are skipped" >&2

# One process per core, one thread each; the tests of a file share its fixtures. The programs that tests start read byte
# code even where writing it is turned off.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --benchmark-disable

test: lint adb ## lint, then all tests except slow ones
	$(PYTEST) -m "not slow"

test-all: lint adb ## lint, then all tests
	$(PYTEST)

test-newest: VENV = .venv-newest
test-newest: adb ## all tests except slow ones with the newest versions of everything, in .venv-newest (6 GB)
	$(MAKE) --always-make VENV=$(VENV) VERSIONS='--upgrade --upgrade-strategy eager' $(VENV)/.ready
	$(PYTEST) -m "not slow"

lint: install ## check style, types, import rules and generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py
	$(BIN)/lint-imports
	$(BIN)/python docs/make_tables.py --check

fmt: install ## format the code and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## benchmark the library against reference implementations
	$(BIN)/python -m pytest --benchmark-only fbnet_zoo/benchmarks/suites/bench_*.py

zoo-report: install ## convert, check and time every network in every format (an hour or more; resumes)
	$(BIN)/python -m fbnet_zoo.benchmarks.zoo_report --jobs 2
	$(BIN)/python docs/make_tables.py

docs: install ## regenerate the generated pages of docs/
	$(BIN)/python docs/make_tables.py

build: install ## build the source distribution and the wheel in dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove build products; keep .venv and .venv-newest
	rm -rf build dist *.egg-info .benchmarks .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +

.PHONY: web counts schema

web: .web/.ready ## install the requirements of the web snippet's test in .web

.web/.ready: tests/web/package.json
	mkdir -p .web
	cp $< .web/package.json
	npm install --prefix .web --no-package-lock --no-audit --no-fund --ignore-scripts
	@touch $@

counts: install ## NAME=<name>: fill in counts, and rewrite the definition in the canonical layout
	@test -n "$(NAME)" || { echo "error: NAME is missing; for example: make counts NAME=fbnet_b" >&2; exit 1; }
	$(BIN)/python -m fbnet_zoo.maintain counts $(NAME)

schema: install ## regenerate arch_defs/*.schema.json from the records of definitions and search spaces
	$(BIN)/python -m fbnet_zoo.maintain schema
