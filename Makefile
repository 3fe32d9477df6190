# What can be done here; `make` alone lists it. Needs a POSIX shell, and uv or a Python 3.11 to 3.13.

PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help run test check format lock release-check clean app-packages test-packages chromium

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: app-packages  ## install what the app needs into .venv, and open the app in the browser
	@$(PYTHON) -m annotator run

test: test-packages chromium check  ## every check and every test, those in a browser included
	@$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: test-packages  ## lint, format, types and import layers; runs nothing
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -c 'from importlinter.cli import lint_imports_command as check; check()' --no-logo --no-cache

format: test-packages  ## put the code into its one form
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

lock:  ## renew requirements.lock from pyproject.toml (needs uv)
	@uv pip compile --quiet --upgrade --universal --no-header --python-version 3.11 --all-extras \
	  pyproject.toml -o requirements.lock

release-check: test-packages  ## build the wheel, install it into an empty environment, and use it there
	@sh .ci/release-check

clean:  ## remove .venv, caches and builds
	@rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	@find annotator tests -name __pycache__ -type d -prune -exec rm -rf {} +

app-packages:
	@sh .ci/environment .

test-packages:
	@sh .ci/environment '.[test]'

chromium: test-packages
	@$(PYTHON) -m tests.conftest 2>/dev/null \
	  || { echo "No Chromium for the tests: fetching one"; $(PYTHON) -m playwright install chromium >/dev/null 2>&1; } \
	  || { echo "None to be had. Install it (Debian: apt install chromium) or name it in ANNOTATOR_CHROMIUM."; exit 1; }
