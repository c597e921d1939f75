# `make run` and `make test` do all on a machine with git, make and Python 3.11+; uv is installed where it is missing.

STATE := $(if $(HEADRACE_STATE),$(abspath $(HEADRACE_STATE)),$(CURDIR)/.headrace)
UV := $(or $(shell command -v uv),$(CURDIR)/.headrace/uv/bin/uv)
RUN := $(UV) run --no-sync
PYTEST := $(RUN) pytest
# Its notice of successors is left out: the versions are chosen in pyproject.toml. --quiet would hide what --strict counts.
DOCS := said=$$(NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict 2>&1) || { echo "$$said" >&2; exit 1; }
# The workspace's dbt project, and those that locations have in their own folders.
DBT_PROJECTS := $(patsubst %/dbt_project.yml,%,$(wildcard dbt/dbt_project.yml projects/*/dbt/dbt_project.yml))
# What a loop over them begins with. sqlfluff connects, and a location's own file is beside that of HEADRACE_WAREHOUSE.
EACH_DBT_PROJECT = mkdir -p $(STATE)/check; for project in $(DBT_PROJECTS); do cd $(CURDIR)/$$project && \
	HEADRACE_LAKE=lake HEADRACE_WAREHOUSE=$(STATE)/check/warehouse.duckdb

# Else each of the hundreds of processes that the tests start would compile what it imports of the members.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(CURDIR)/.headrace/uv/bin/uv:
	@mkdir -p .headrace
	@python3 -m venv .headrace/uv 2>/dev/null || { rm -rf .headrace/uv; \
		echo "python3 cannot make a virtual environment: install uv, or Python's venv (Debian: apt install python3-venv)" >&2; exit 1; }
	@.headrace/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9.11'

.PHONY: install
install: $(UV) ## Install the workspace into .venv, exactly as uv.lock says
	@$(UV) sync --locked --quiet

.PHONY: run
run: install ## The main job: 90 days of demo exports become tested marts, if there are no exports
	@$(RUN) headrace run $(ARGS)

.PHONY: dev
dev: install ## The Dagster UI with all code locations, reloading as you edit (dg dev)
	@eval "$$($(RUN) headrace init)" && $(RUN) dg dev --use-active-venv $(ARGS)

.PHONY: install-servers
install-servers: $(UV)
	@# With what the tests of other targets start, which is larger than all else.
	@$(UV) sync --locked --quiet --group scale

.PHONY: test
test: install-servers browser ## All tests, in one session: the long ones first, so that the short ones fill the end
	@$(PYTEST) -n 4 --dist loadfile --no-loadscope-reorder --junitxml=$(STATE)/tests/all.xml tests packages projects bench

.PHONY: browser
browser:
	@# Where there is none, pytest says that it leaves the browser tests out.
	@.ci/install-chromium 2>/dev/null || true

.PHONY: test-fast
test-fast: install ## The tests that start no servers and run no dbt
	@$(PYTEST) -m "not slow" -n 2 --dist loadfile --junitxml=$(STATE)/fast.xml

.PHONY: nightly
nightly: export HEADRACE_THOROUGH := 1
nightly: test ## All tests with their full numbers: each mutation, 20 kills, 400 histories, a year of jafgen

.PHONY: test-scale
test-scale: export HEADRACE_THOROUGH := 1
test-scale: install-servers ## The tests of the other targets and of workers in full: object store, DuckLake, Postgres, Spark, Celery
	@$(PYTEST) -n 2 --dist loadfile --junitxml=$(STATE)/scale.xml tests/engines tests/workers tests/test_s3_lake.py projects/ingest/tests/test_s3.py

.PHONY: soak
soak: install ## A thousand main jobs that are killed at random moments (HEADRACE_KILLS, HEADRACE_SEED); takes hours
	@HEADRACE_THOROUGH=1 HEADRACE_KILLS=$${HEADRACE_KILLS:-1000} $(PYTEST) tests/faults/test_kills.py

.PHONY: audit
audit: $(UV) ## Known vulnerabilities of the packages of uv.lock, by pip-audit, where its data can be reached
	@PATH="$(dir $(UV)):$$PATH" .ci/audit

.PHONY: slowest
slowest: install ## The ten files of the last `make test` that took longest, and why
	@$(RUN) python tests/slowest.py $(STATE)/tests

.PHONY: mutants
mutants: install ## All tests of each member while all files that do not touch it are broken, then deleted; takes hours
	@$(PYTEST) tests/mutation --every-test

.PHONY: test-member
test-member: $(UV) ## Test MEMBER=ingest alone, in an environment with nothing else installed (PYTEST_ARGS=-x)
	@PATH="$(dir $(UV)):$$PATH" .ci/test-member "$(MEMBER)" $(PYTEST_ARGS)

.PHONY: test-members
test-members: $(UV) ## Test every member in its own environment
	@failed=; for member in $$(sed -n 's/^name = "\([^"]*\)".*/\1/p' packages/*/pyproject.toml projects/*/pyproject.toml); do \
		echo "$$member"; $(MAKE) --no-print-directory test-member MEMBER=$$member || failed="$$failed $$member"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: contracts
contracts: install ## What locations promise each other; with DEPLOYED=DIR what is deployed of them too
	@$(RUN) headrace contract check $(if $(DEPLOYED),--against $(DEPLOYED))

.PHONY: dbt-ci
dbt-ci: install ## Build the dbt models that differ from the manifest in DBT_STATE=DIR, or from that of BASE
	@eval "$$($(RUN) headrace init)" && $(RUN) .ci/dbt-ci "$(or $(BASE),origin/main)" "$(DBT_STATE)"

.PHONY: ci
ci: install ## What the workflow of a pull request runs, on this machine, for what changed since BASE=origin/main
	@$(RUN) headrace ci $(if $(BASE),--base $(BASE)) $(if $(DBT_STATE),--state $(DBT_STATE))

.PHONY: bench
bench: install ## Measure beside SQLMesh, stock dagster-dbt, dbt and SQL alone; takes hours (ARGS="--models --rounds 3": six minutes)
	@mkdir -p $(STATE)
	@$(RUN) python -m bench --json $(STATE)/bench.json --markdown $(ARGS)

.PHONY: bench-scale
bench-scale: install-servers ## Measure the same shop on DuckDB, DuckLake and Spark (ARGS="--orders 100000 --targets duckdb spark")
	@mkdir -p $(STATE)
	@$(RUN) python -m bench.engines --json $(STATE)/bench-scale.json $(ARGS)

.PHONY: check
check: check-fast ## Lint, format, types, SQL, dbt's own warnings, workflows, contracts, and the links of the docs
	@$(RUN) mypy packages/*/src projects/*/src bench docs/site
	@said=$$($(RUN) lint-imports --no-cache 2>&1) || { echo "$$said" >&2; exit 1; }
	@$(EACH_DBT_PROJECT) $(RUN) sqlfluff lint --disable-progress-bar models tests || exit 1; done
	@$(EACH_DBT_PROJECT) $(RUN) dbt --quiet --warn-error parse --show-all-deprecations --no-partial-parse \
		--target-path $(STATE)/check/$$project --log-path $(STATE)/check/$$project || exit 1; done
	@$(RUN) headrace contract check
	@$(DOCS)

.PHONY: check-fast
check-fast: install ## The part of `check` that takes seconds: lint, format, workflows, images
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --check --quiet
	@$(RUN) hadolint deploy/images/Dockerfile
	@$(RUN) actionlint
	@$(RUN) zizmor --offline --quiet .github

.PHONY: docs
docs: install ## The documentation as a site, in .headrace/docs/index.html
	@$(DOCS)

.PHONY: format
format: install ## Format Python and SQL, and mend what the linters can
	@$(RUN) ruff format --quiet
	@$(RUN) ruff check --fix --quiet
	@$(EACH_DBT_PROJECT) $(RUN) sqlfluff fix --quiet models tests || exit 1; done

.PHONY: clean
clean: ## Forget all state: exports, lake, warehouse, Dagster's history
	@rm -rf $(STATE)/exports $(STATE)/lake $(STATE)/*.duckdb* $(STATE)/dagster $(STATE)/check \
		$(foreach project,$(DBT_PROJECTS),$(project)/target $(project)/logs)
