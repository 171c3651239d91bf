# uv runs everything, from uv.lock; where there is none, the checkout gets one of its own.
OWN_UV := build/uv/bin/uv
UV := $(if $(shell command -v uv),uv,$(OWN_UV))
NEEDS_UV := $(filter $(OWN_UV),$(UV))
RUN := $(UV) run --locked --quiet

# Without byte code, each of the many processes that the tests start would compile whatever it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo run test contract check image bench bench-image chaos cli

demo: $(NEEDS_UV)  ## real WebSocket clients come and go, and the list is right after each step
	$(RUN) python -m infra.local demo $(ARGS)

run: $(NEEDS_UV)  ## the same stack, until Ctrl-C, with a page of dashboards, and for a client of your own
	$(RUN) python -m infra.local run

test: $(NEEDS_UV)  ## every lane that this machine can run
	@# a folder of its own for the coverage's data: of two runs at once, each would take the other's
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && COVERAGE_FILE="$$data/coverage" \
	$(RUN) pytest --numprocesses=auto --dist=loadgroup --cov --cov-report=term $(ARGS)

contract: $(NEEDS_UV)  ## the contract tests on a storage adapter: STORE=package.module:factory PACKAGE=its/folder
	@test -n "$(STORE)" || { echo "Name the adapter: make contract STORE=package.module:factory"; exit 2; }
	@$(if $(PACKAGE),$(UV) sync --quiet --inexact --no-dev --project "$(PACKAGE)" --python 3.13)
	@CONTRACT_STORE="$(STORE)" PYTHONPATH= \
	CONTRACT_PATH="$(PYTHONPATH):$(addsuffix /.venv/lib/python3.13/site-packages,$(PACKAGE))" \
	$(RUN) pytest --quiet --no-header --tb=short -W default -o faulthandler_timeout=120 \
		--hypothesis-profile=thorough tests/contract $(ARGS)

check: $(NEEDS_UV)  ## style, types, import contracts, the template, the locks
	$(UV) lock --check --quiet
	$(UV) lock --check --quiet --script infra/emulator.py
	$(UV) lock --check --quiet --project tests/extension
	$(RUN) ruff format --check --quiet
	$(RUN) ruff check --quiet
	$(RUN) mypy
	$(UV) sync --quiet --locked --inexact --no-dev --no-install-project --project tests/extension --python .venv/bin/python
	MYPYPATH=tests/extension $(RUN) mypy --python-executable tests/extension/.venv/bin/python --package switchboard_postgres
	$(RUN) lint-imports --no-logo
	$(RUN) cfn-lint infra/template.yaml

image:  ## the image that the functions run; BASE_IMAGE names another base
	BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --tag switchboard $(addprefix --build-arg BASE_IMAGE=,$(BASE_IMAGE)) .

bench: $(NEEDS_UV)  ## cold, warm and memory beside the function everyone writes; ARGS=--instructions counts those too
	$(RUN) --isolated --group bench python -m tests.benchmarks $(ARGS)

bench-image: $(NEEDS_UV)  ## cold and warm inside the image under the runtime interface emulator; needs Docker
	$(RUN) --isolated --group bench python -m tests.benchmarks.image $(ARGS)

cli: $(NEEDS_UV)  ## the list for the person on call; ARGS="ls --json"
	@$(RUN) python -m app $(ARGS)

chaos: $(NEEDS_UV)  ## connections by the thousand under faults, and the list checked after; ARGS=--help
	$(RUN) python -m tests.chaos $(ARGS)

$(OWN_UV): infra/uv.txt
	@echo "No uv on this machine: installing one into build/uv"
	python3 -m venv build/uv
	build/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement infra/uv.txt
	@touch $@
