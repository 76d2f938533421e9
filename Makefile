# Every target does its own set-up: a virtual environment in .venv, and, for the tests, system packages where possible.
# PYTHON=/path/to/python3 chooses the interpreter (>= 3.11) that .venv is made with; `make clean` first to change it.

PYTHON ?=
VENV := .venv
STAMP := $(VENV)/.made-for
RUN := $(VENV)/bin/
PYTEST = $(RUN)python -m pytest $(PYTEST_ARGS)

.PHONY: help demo test check verified lint types floors format soak bench clean system FORCE
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(STAMP) ## the main job on a scripted board: no hardware, no system package
	@$(RUN)hilbridge demo

test: system $(STAMP) lint types floors verified ## everything but soak: lint, types, floors, all tests
	$(PYTEST)

verified: $(STAMP) ## the tests of the drivers once more, under the driver verifier
	HILBRIDGE_VERIFY=all $(PYTEST) -q -m "not slow and not soak" tests/drivers tests/filters tests/bridge tests/pnp

check: $(STAMP) lint types floors ## the quick loop: as test, without the slow tests
	$(PYTEST) -m "not slow and not soak"

lint: $(STAMP) ## ruff: rules and format
	$(RUN)ruff check .
	$(RUN)ruff format --check .

types: $(STAMP) ## mypy, strict
	$(RUN)mypy

floors: $(STAMP) ## which floor may import which (import-linter)
	$(RUN)lint-imports --no-logo

format: $(STAMP) ## rewrite the sources as ruff would have them
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

soak: system $(STAMP) ## minutes of random work; MINUTES=10 per test, SEED=7 to repeat one
	$(PYTEST) -m soak $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--soak-minutes $(MINUTES))

bench: $(STAMP) ## measurements, as ratios, in one table
	@$(RUN)python -m benchmarks

clean: ## remove .venv, builds and caches
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@tools/system-packages

# The stamp holds the path of the checkout that the environment was made for: a copied or moved one is made anew.
$(STAMP): pyproject.toml tools/make-venv
	@tools/make-venv $@ $(PYTHON)

ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif
FORCE:
