# uv runs everything, from uv.lock; where there is none, the checkout gets one of its own.
OWN_UV := build/uv/bin/uv
UV := $(if $(shell command -v uv),uv,$(OWN_UV))
NEEDS_UV := $(filter $(OWN_UV),$(UV))
RUN := $(UV) run --locked --quiet
IMAGE_ID := build/image.id

# Without byte code, each of the many processes that the tests start would compile whatever it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo run test contract check locks style types imports template workflows audit hooks image sbom release-dry-run bench bench-image chaos cli pictures cost

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

check: locks style types imports template workflows audit  ## each is a target of its own, and a hook of pre-commit

locks: $(NEEDS_UV)
	$(UV) lock --check --quiet
	$(UV) lock --check --quiet --script infra/emulator.py
	$(UV) lock --check --quiet --project tests/extension

style: $(NEEDS_UV)
	$(RUN) ruff format --check --quiet
	$(RUN) ruff check --quiet

types: $(NEEDS_UV)
	$(RUN) mypy
	$(UV) sync --quiet --locked --inexact --no-dev --no-install-project --project tests/extension --python .venv/bin/python
	MYPYPATH=tests/extension $(RUN) mypy --python-executable tests/extension/.venv/bin/python --package switchboard_postgres

imports: $(NEEDS_UV)
	$(RUN) lint-imports --no-logo

template: $(NEEDS_UV)
	$(RUN) cfn-lint infra/template.yaml infra/recipes/import-table.yaml

workflows: $(NEEDS_UV)
	$(RUN) zizmor --quiet --offline --strict-collection --persona=pedantic .github

audit: $(OWN_UV)  ## known vulnerabilities of what the uv locks name; by the pinned uv, whose command is a preview
	@for lock in "--project ." "--project tests/extension" "--script infra/emulator.py"; do \
		report=$$(UV_HTTP_RETRIES=0 UV_HTTP_TIMEOUT=10 $(OWN_UV) audit --frozen --preview-features audit-command $$lock $(ARGS) 2>&1); \
		case $$? in \
			0) echo "$$report" ;; \
			1) echo "$$report"; exit 1 ;; \
			*) reason=$$(echo "$$report" | tr -s '\n ' ' '); \
				echo "$${GITHUB_ACTIONS:+::warning::}WARNING: NOT AUDITED: the database of vulnerabilities gave no answer: $$reason" >&2; \
				break ;; \
		esac; \
	done

hooks: $(NEEDS_UV)  ## git runs the targets of check before each commit
	$(RUN) pre-commit install --config .github/pre-commit-config.yaml

image: $(NEEDS_UV)  ## the image that the functions run, labelled with version and commit; BASE_IMAGE names another base
	@labels=$$($(UV) run --no-project --quiet python -m infra.release labels) && eval "set -- $$labels" && mkdir -p build && \
	set -x && BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --tag switchboard --iidfile "$(IMAGE_ID)" \
		$(addprefix --build-arg BASE_IMAGE=,$(BASE_IMAGE)) "$$@" .

sbom: $(NEEDS_UV)  ## what the image is made of, compared with the image: build/release/sbom.cdx.json
	$(RUN) python -m infra.release sbom

release-dry-run: $(NEEDS_UV)  ## all of a release that needs no account; TAG=v1.2.3 fails if that could not be tagged
	$(RUN) python -m infra.release rehearse $(addprefix --tag=,$(TAG))

bench: $(NEEDS_UV)  ## cold, warm and memory beside the function everyone writes; ARGS=--instructions counts those too
	$(RUN) --isolated --group bench python -m tests.benchmarks $(ARGS)

bench-image: $(NEEDS_UV)  ## cold and warm inside the image under the runtime interface emulator; needs Docker
	$(RUN) --isolated --group bench python -m tests.benchmarks.image $(ARGS)

pictures: $(NEEDS_UV)  ## the pictures of the documentation, from their sources; ARGS=--record films the demo anew
	$(RUN) python -m infra.pictures $(ARGS)

cost: $(NEEDS_UV)  ## dollars on AWS, beside a plain function and none; ARGS="--open 5000 --region ap-northeast-2", ARGS=--help
	@$(RUN) python -m infra.cost $(ARGS)

cli: $(NEEDS_UV)  ## the list for the person on call; ARGS="ls --json"
	@$(RUN) python -m app $(ARGS)

chaos: $(NEEDS_UV)  ## connections by the thousand under faults, and the list checked after; ARGS=--help
	$(RUN) python -m tests.chaos $(ARGS)

$(OWN_UV): infra/uv.txt
	@echo "No uv on this machine: installing one into build/uv"
	python3 -m venv build/uv
	build/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement infra/uv.txt
	@touch $@

# By its checksum: the release's own list of checksums is of no help against who can change the release.
build/trivy: infra/trivy.txt
	@set -- $$(grep "^$$(uname -s)-$$(uname -m) " $<) && archive=$$(mktemp) && trap 'rm -f "$$archive"' EXIT && \
	curl --fail --silent --show-error --location --output "$$archive" \
		"https://github.com/aquasecurity/trivy/releases/download/$$3" && \
	echo "$$2  $$archive" | shasum --algorithm 256 --check --status && \
	mkdir -p build && tar -xzmf "$$archive" -C build trivy
