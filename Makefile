# `make demo` and `make test` need Python 3.11 or later and make, nothing else.

FITS = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c "$(FITS)" 2>/dev/null && echo $$p && break; done)
POOL ?=
INPUTS ?=
JOBS ?= 10
PROCESSES ?= 4
TESTS ?= usual
usual = -m "not thorough"
rest = -m thorough
all =
BIN = .venv/bin
# What Python has compiled is kept: else each process of the tests compiles all of them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv image demo test test-rest test-all pytest chaos bench lint clean
.DELETE_ON_ERROR:

help:
	@echo "make demo [POOL=docker|process] [INPUTS=folder]   run real jobs of every compute task"
	@echo "make test                                         the tests for every change: about ten minutes"
	@echo "make test-rest                                    the tests that it leaves out"
	@echo "make test-all                                     both in one run, as CI does"
	@echo "make chaos [JOBS=10]                              every fault, the long loops too, and a table"
	@echo "make lint                                         ruff, pyright and import-linter"
	@echo "make image                                        build the image of jobs"

venv: .venv/installed

# Hashes are checked for everything. The pip of the lock comes first, since that of Python 3.11 takes
# three times as long; and setuptools, so that what has no wheel is built with the locked one. Modules
# are compiled when they are first imported: most of those installed never are.
.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c "$(FITS)" \
		|| { echo "Prefecture needs Python 3.11 to 3.14; name one with PYTHON=..."; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python deployments/image_requirements.py build pyproject.toml requirements.lock > .venv/build.txt
	$(BIN)/pip install --quiet --require-hashes --no-deps --no-compile -r .venv/build.txt
	$(BIN)/pip install --quiet --require-hashes --no-deps --no-compile --no-build-isolation \
		-r requirements.lock
	$(BIN)/pip check
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

image: venv
	$(BIN)/prefecture image

demo: venv
	$(BIN)/prefecture demo $(if $(POOL),--pool $(POOL)) $(if $(INPUTS),--inputs "$(INPUTS)")

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo --no-cache

test: lint pytest

# More processes than cores: the tests wait more than they compute.
pytest: venv
	$(BIN)/pytest --numprocesses $(PROCESSES) $($(TESTS))

test-rest: TESTS = rest
test-rest: pytest

test-all: TESTS = all
test-all: test

chaos: venv
	$(BIN)/pytest tests/chaos --chaos --jobs $(JOBS)

bench: venv
	$(BIN)/python -m benchmarks.suite
	$(BIN)/pytest --timed

clean:
	rm -rf .venv build *.egg-info
