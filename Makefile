# Two commands do everything on a fresh machine with Python 3.11 and make: `make rehearsal` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup rehearsal test lint docs bench lock clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python {sys.version.split()[0]} found, 3.11 or later needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

rehearsal: setup
	$(BIN)/task-migration rehearse

# Each worker has servers of its own (tests/conftest.py); ARGS='-n 0 tests/unit' runs a part in this process alone.
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Writes docs/commands.md anew from the commands.
docs: setup
	$(BIN)/python -m scripts.cli.reference

bench: setup
	$(BIN)/python -m tests.bench $(ARGS)

# Resolves pyproject.toml anew; needs uv (`pip install uv`). The lock names no index address.
lock:
	uv pip compile pyproject.toml --extra rehearsal --extra dev --generate-hashes --python-version 3.11 --no-header \
		--quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
