# Everything from a bare checkout; needs Python >= 3.11, make and, for Horovod, a C++ compiler.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
# The report's suites are interrupted after so long, and report what they have.
REPORT_LIMIT_S ?= 900

bin := $(VENV)/bin
# Runs a command with a line of progress every ten seconds; -P keeps harness/ itself off the module path.
stage = $(bin)/python -P harness/stage.py
pip = $(bin)/python -m pip --disable-pip-version-check
environment := $(VENV)/.stamp-environment
packages := $(VENV)/.stamp-packages
horovod := $(VENV)/.stamp-horovod

.NOTPARALLEL:
.PHONY: help report test setup horovod lint clean

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "make %-9s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

report: setup ## set up, run the conformance and performance suites, write an HTML report
	@$(stage) --limit-s $(REPORT_LIMIT_S) "Running the conformance and performance suites" -- \
	  $(bin)/python -m pytest suites/conformance suites/performance $(PYTEST_ARGS); code=$$?; \
	page=$$(ls -t reports/*/index.html 2>/dev/null | head -n 1); \
	if [ -n "$$page" ]; then echo "The report: $(CURDIR)/$$page"; else echo "No report was written."; fi; \
	exit $$code

test: setup lint ## set up, check the style and the types, run every suite
	@$(stage) "Running the tests" -- $(bin)/python -m pytest -m "not slow" --ls-budget 5 $(PYTEST_ARGS)

setup: $(horovod) ## make .venv with everything in it; does nothing when nothing has changed

horovod: $(packages) ## build Horovod again for what is installed in .venv (setup does it once)
	@rm -f $(horovod)
	@$(MAKE) --no-print-directory $(horovod)
	@grep -q '^built' $(horovod)

lint: $(packages) ## ruff and mypy
	@echo "Checking the style ..."
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --check --quiet . || { echo "  some files are not formatted: $(bin)/ruff format ."; exit 1; }
	@$(stage) --log $(VENV)/mypy.log "Checking the types (about a minute the first time)" -- $(bin)/mypy

clean: ## delete .venv and all caches here; reports and built wheels of Horovod stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find harness suites -name __pycache__ -type d -prune -exec rm -rf {} +

$(environment):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "expected Python >= 3.11 but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -n 1)"; \
	  echo "install one, or name it: make PYTHON=python3.12 ..."; exit 1; }
	@echo "[1/3] Making $(VENV) with $$($(PYTHON) --version) ..."
	@if ! $(bin)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  said=$$($(PYTHON) -m venv --clear $(VENV) 2>&1) || { \
	    echo "$$said"; rm -rf $(VENV); \
	    echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }; fi
	@touch $@

$(packages): pyproject.toml constraints.txt $(environment)
	@$(stage) --log $(VENV)/packages.log "[2/3] Installing PyTorch, TensorFlow and the rest (1 to 5 minutes, 7 GB)" -- \
	  $(pip) install --progress-bar off -c constraints.txt -e '.[all,dev]'
	@touch $@

$(horovod): $(packages) $(wildcard harness/horovod_build/*.py)
	@echo "[3/3] Horovod (built from source: 2 to 4 minutes on two cores, then kept)"
	@PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(bin)/python -m harness.horovod_build; code=$$?; \
	case $$code in \
	  0) echo built >$@ ;; \
	  130 | 143) exit $$code ;; \
	  *) echo "not built: exit code $$code" >$@; \
	     echo "Going on without Horovod: its cases will be skipped. To try again: make horovod" ;; \
	esac
