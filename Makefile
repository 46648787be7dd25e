# Two commands do everything on a fresh machine with Python 3.11 and make: `make rehearsal` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup engine browser rehearsal test fuzz machine mutants lint code workflows secrets known-secrets dependencies audit sbom docs bench lock clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python {sys.version.split()[0]} found, 3.11 or later needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Only what is built of Go modules needs Go; all else runs without it. $(1): the target, $(2): what is built.
comma := ,
NEEDS_GO = @command -v go >/dev/null || { echo "make $(1): go is not on PATH, and Go $$(sed -n 's/^go //p' $<) or later builds $(2). Install it (https://go.dev/doc/install), then run make $(1) again" >&2; exit 2; }

# The real engine, for a rehearsal and the tests marked `engine`: Pulumi's CLI, built from its Go module as .ci/engine/go.mod pins it.
# It comes without language hosts, so the program is run inline (scripts/rehearsal/engine/hosted.py).
CLI := build/engine/pulumi
MODULE := github.com/pulumi/pulumi
engine: $(CLI)

$(CLI): .ci/engine/go.mod .ci/engine/go.sum
	$(call NEEDS_GO,engine,Pulumi's CLI)
	@mkdir -p $(@D)
	cd $(<D) && go build -o ../../$@ -ldflags \
		"-s -w -X $(MODULE)/sdk/v3/go/common/version.Version=$$(go list -m -f '{{.Version}}' $(MODULE)/pkg/v3)" $(MODULE)/pkg/v3/cmd/pulumi

# For the tests of what a browser shows. Debian has it by package; elsewhere whoever owns the machine installs it.
browser:
	@command -v chromium-headless-shell || command -v chromium || command -v google-chrome || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update --quiet=2 && \
		DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --no-install-recommends chromium-headless-shell fonts-dejavu-core; } || \
		{ echo "make browser: there is no Chromium (chromium-headless-shell, chromium or google-chrome on PATH), and installing Debian's takes root and apt-get. Install one, then run make browser again" >&2; exit 2; }

rehearsal: setup
	$(BIN)/task-migration rehearse

# Each worker has servers of its own (tests/conftest.py); ARGS='-n 0 tests/unit' runs a part in this process alone.
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# Schemas and writes that Hypothesis draws, through the whole chain, for an hour; each failure as the smallest SQL that still fails.
FUZZ_SECONDS ?= 3600
fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

# Commands in any order, killed anywhere, beside another operator's, over two servers: twenty minutes; each batch says its seed.
machine: setup
	$(BIN)/python -m tests.machine $(ARGS)

# Small faults put into the decision code one at a time, each of which a test has to notice (docs/testing.md); an hour.
# ARGS=scripts/canary/gates.py takes one file.
mutants: setup
	$(BIN)/python -m tests.mutants --workers $(WORKERS) $(ARGS)

# The workflows last: without Go the rest is looked at all the same, and the last line says what was not.
lint: secrets dependencies code workflows

code: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The workflows, and the scripts in them. actionlint is built from its Go module: its package on PyPI fetches a program from elsewhere.
ACTIONLINT := build/actionlint
workflows: setup $(ACTIONLINT)
	$(ACTIONLINT) -shellcheck $(BIN)/shellcheck -pyflakes ''
	$(BIN)/shellcheck .ci/run docs/bootstrap/*.sh

$(ACTIONLINT): .ci/actionlint/go.mod .ci/actionlint/go.sum
	$(call NEEDS_GO,workflows,actionlint$(comma) which checks the workflows)
	@mkdir -p $(@D)
	cd .ci/actionlint && go build -o '$(CURDIR)/$@' github.com/rhysd/actionlint/cmd/actionlint

# Status 3: a known one (.secrets.baseline) stands on another line. A new one that is none: `make known-secrets`, and say why in
# the commit. Tests make passwords up, so there it looks for what has the form of a key alone.
SCANNED := git ls-files -- ':!tests' ':!requirements.lock' ':!.ci/*/go.sum' ':!.secrets.baseline'
FORMS := $(foreach plugin,KeywordDetector Base64HighEntropyString HexHighEntropyString BasicAuthDetector,--disable-plugin $(plugin))
secrets: setup
	@mkdir -p build && cp .secrets.baseline build/secrets.baseline
	@$(BIN)/detect-secrets-hook $(FORMS) $$(git ls-files tests)
	@files="$$($(SCANNED))" && test -n "$$files" && \
		{ $(BIN)/detect-secrets-hook --baseline build/secrets.baseline $$files || test $$? -eq 3; }

known-secrets: setup
	$(BIN)/detect-secrets scan $$($(SCANNED)) > .secrets.baseline

# Without a network: every line of the lock is pinned with hashes and comes from the index, what is installed is what it says,
# and fits together. It knows no advisories: that is `make audit`.
dependencies: setup
	@mkdir -p build
	@$(BIN)/pip-audit --dry-run --strict --require-hashes --disable-pip --progress-spinner off --requirement requirements.lock \
		>build/lock.log 2>&1 || { cat build/lock.log >&2; exit 1; }
	$(BIN)/python -m pip --isolated check
	$(BIN)/python -m pip --isolated install --dry-run --quiet --no-index --no-deps --require-hashes --requirement requirements.lock

# Known vulnerabilities of what the lock pins; asks OSV, and fails where that does not answer.
audit: setup
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock --vulnerability-service osv $(ARGS)

sbom: setup
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --output-file build/sbom.cdx.json

# Writes docs/commands.md anew from the commands, and lays the stacks' files out as their template is.
docs: setup
	$(BIN)/python -m scripts.cli.reference
	$(BIN)/python -m scripts.init.layout

bench: setup
	$(BIN)/python -m tests.bench $(ARGS)

# Resolves pyproject.toml anew; needs uv (`pip install uv`). The lock names no index address.
lock:
	uv pip compile pyproject.toml --extra rehearsal --extra dev --generate-hashes --python-version 3.11 --universal --no-header \
		--quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
