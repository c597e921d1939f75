# `make run` and `make test` do all on a machine with git, make and Python 3.11+; uv is installed where it is missing.

STATE := $(if $(HEADRACE_STATE),$(abspath $(HEADRACE_STATE)),$(CURDIR)/.headrace)
UV := $(or $(shell command -v uv),$(CURDIR)/.headrace/uv/bin/uv)
RUN := $(UV) run --no-sync
PYTEST := $(RUN) pytest

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(CURDIR)/.headrace/uv/bin/uv:
	@mkdir -p .headrace
	@python3 -m venv .headrace/uv 2>/dev/null || { rm -rf .headrace/uv; \
		echo "python3 can not make a virtual environment: install uv, or Python's venv (Debian: apt install python3-venv)" >&2; exit 1; }
	@.headrace/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

.PHONY: install
install: $(UV) ## Install the workspace into .venv, exactly as uv.lock says
	@$(UV) sync --locked --quiet

.PHONY: run
run: install ## The main job: 90 days of demo exports become tested marts, if there are no exports
	@$(RUN) headrace run $(ARGS)

.PHONY: dev
dev: install ## The Dagster UI with all code locations, reloading as you edit (dg dev)
	@eval "$$($(RUN) headrace init)" && $(RUN) dg dev --use-active-venv $(ARGS)

.PHONY: test
test: install ## All tests
	@$(PYTEST) -m "not slow" -n 2
	@$(PYTEST) -m slow -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test-fast
test-fast: install ## The tests that start no processes
	@$(PYTEST) -m "not slow" -n 2

.PHONY: bench
bench: install ## Measure a partition against stock dagster-dbt, dbt and SQL alone; takes hours (ARGS="--models 12 --rounds 1")
	@mkdir -p $(STATE)
	@$(RUN) python -m bench --json $(STATE)/bench.json --markdown $(ARGS)

.PHONY: check
check: install ## Lint, format, types, SQL, dbt's own warnings, and the contracts between locations
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --check --quiet
	@$(RUN) mypy packages/*/src projects/*/src bench
	@$(RUN) hadolint deploy/images/Dockerfile
	@cd dbt && HEADRACE_LAKE=lake HEADRACE_WAREHOUSE=:memory: $(RUN) sqlfluff lint --disable-progress-bar models tests
	@cd dbt && HEADRACE_LAKE=lake HEADRACE_WAREHOUSE=:memory: $(RUN) dbt --quiet --warn-error parse \
		--show-all-deprecations --no-partial-parse --target-path $(STATE)/check --log-path $(STATE)/check
	@$(RUN) headrace contract check

.PHONY: format
format: install ## Format Python and SQL, and mend what the linters can
	@$(RUN) ruff format --quiet
	@$(RUN) ruff check --fix --quiet
	@cd dbt && HEADRACE_LAKE=lake HEADRACE_WAREHOUSE=:memory: $(RUN) sqlfluff fix --quiet models tests

.PHONY: clean
clean: ## Forget all state: exports, lake, warehouse, Dagster's history
	@rm -rf $(STATE)/exports $(STATE)/lake $(STATE)/warehouse.duckdb* $(STATE)/dagster $(STATE)/check dbt/target dbt/logs
