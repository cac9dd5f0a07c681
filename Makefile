PYTHON ?= python3
BIN := .venv/bin
# Which build of torch: cpu on Linux without an NVIDIA card, else cuda, the build of the package index.
TORCH ?= $(shell [ $$(uname) != Linux ] || nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
AUDITED = $(filter-out %/torch-cpu.txt %/lint.txt,$(wildcard requirements/*.txt)) # torch is in torch-cuda.txt, linters run on our files only
OFFERED_TORCH = $(BIN)/pip index versions -v torch # a quiet pip would name none without -v
PIP_INSTALL = pip install --no-deps --no-build-isolation
LOCKED = $(PIP_INSTALL) --require-hashes
UV_LOCKED = uv pip install --no-deps --require-hashes --python $(BIN)/python # knows PyTorch's own indexes

VERSION = $$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
NEEDED = Python 3.11 to 3.13 is needed: make PYTHON=python3.13
TARGETS ?= light page cpu
IMAGE ?= infinitetalk-farm
LABELS = --label org.opencontainers.image.version=$(VERSION) \
  --label org.opencontainers.image.revision=$$(git rev-parse HEAD)

.PHONY: demo test test-fast check docs reference chaos attack bench-farm miniature lock audit clean
.PHONY: images sbom compose-test k8s-check lint-images
demo: .venv/ready ## one talking video through the whole farm
	$(BIN)/farm demo examples/single_image.json
test: .venv/tools ## every test, three at a time: many wait for the processes that they start
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder # long files first, not last
test-fast: .venv/tools ## without those that start a whole farm or run the model: three minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"
check: .venv/tools ## style, types and who may import whom
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
docs: .venv/tools ## the reference pages, from the descriptions in the code
	$(BIN)/python -m docs.generate
reference: .venv/tools ## the model's numbers against the original's
	$(BIN)/python -m tests.reference tests/reference/cases/*
chaos: .venv/tools ## break a farm in every known way, and count; ARGS=--long for more of it
	$(BIN)/python -m tests.chaos $(ARGS)
	$(BIN)/python -m tests.chaos --rabbitmq $(ARGS)
	$(BIN)/python -m tests.chaos.rented
attack: .venv/tools ## decode files that are made to cost much, and measure what they cost
	$(BIN)/python -m tests.attacks $(ARGS)
bench-farm: .venv/tools ## what the farm itself costs, against bare Celery chains
	$(BIN)/python -m benchmarks.chain
miniature: .venv/tools ## train the model that comes with the package
	$(BIN)/python -m miniature
lock: .supply/ready ## the locked requirements, from pyproject.toml; ARGS=--upgrade for newer versions
	.supply/bin/python -m requirements.lock $(ARGS)
audit: .supply/ready .venv/tools ## licences of what is installed, known vulnerabilities of what is locked
	$(BIN)/python -m requirements.licences
	.supply/bin/pip-audit --strict --disable-pip --require-hashes $(AUDITED:%=-r %) $(ARGS)
images: ## the images light, page and cpu, and the S3 service; TARGETS="gpu runpod" for the others
	set -e; for target in $(TARGETS); do \
	  DOCKER_BUILDKIT=1 docker build --file docker/Dockerfile --target $$target $(LABELS) \
	    --tag $(IMAGE):$$target --tag $(IMAGE):$(VERSION)-$$target .; \
	done
	DOCKER_BUILDKIT=1 docker build --file docker/seaweedfs/Dockerfile $(LABELS) --tag $(IMAGE):s3 .
sbom: .sbom/ready ## what is in the images of TARGETS, and their licences: build/sbom
	$(PYTHON) docker/sbom.py build/sbom $(TARGETS:%=$(IMAGE):%)
compose-test: .venv/tools ## build images, run the farm in Compose, kill services; ARGS=--long for all faults
	$(BIN)/python -m $(if $(ARGS),tests.containers $(ARGS),pytest tests/containers)
k8s-check: .venv/tools .lint/ready ## the Kubernetes manifests; ARGS="FOLDER ..." for overlays of your own
	$(BIN)/python -m k8s.generate --check && $(BIN)/python -m k8s.check $(ARGS)
	$(BIN)/python -m k8s.posture $(ARGS)
lint-images: .lint/ready ## hadolint and checkov
	.lint/bin/hadolint docker/Dockerfile docker/seaweedfs/Dockerfile
	.lint/bin/checkov --quiet --compact --skip-download --framework dockerfile --directory docker
.env: ## random passwords for compose.yaml
	$(PYTHON) docker/env.py $@
clean:
	rm -rf .venv .supply .sbom .lint

.venv/ready: pyproject.toml $(wildcard requirements/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "$(NEEDED)")'
	@echo "installing into .venv, this once: 350 MB, and torch: 190 MB without CUDA, 2.7 GB with it"
	@echo "torch is the build for $(TORCH); make TORCH=cpu or TORCH=cuda takes the other one"
	$(PYTHON) -m venv .venv
	$(BIN)/$(LOCKED) --quiet -r requirements/build.txt
	if [ $(TORCH) = cuda ] || $(OFFERED_TORCH) 2>/dev/null | grep -q +cpu; then \
	  $(BIN)/$(LOCKED) -r requirements/torch-$(TORCH).txt; \
	else $(BIN)/$(LOCKED) --quiet -r requirements/image.txt && \
	  $(BIN)/$(UV_LOCKED) --torch-backend cpu -r requirements/torch-cpu.txt; \
	fi
	$(BIN)/$(LOCKED) $(patsubst %,-r requirements/%.txt,worker local monitor ui gateway)
	$(BIN)/$(PIP_INSTALL) --quiet -e .
	touch $@

.venv/tools: .venv/ready
	@echo "installing what tests and checks need besides, this once"
	$(BIN)/$(LOCKED) $(patsubst %,-r requirements/%.txt,kokoro runpod excel dev s3)
	$(BIN)/python -m requirements.check
	touch $@

.supply/ready: requirements/build.txt requirements/supply.txt # apart, for a .venv that lags behind
	$(PYTHON) -m venv .supply
	.supply/bin/$(LOCKED) -r requirements/build.txt
	.supply/bin/$(LOCKED) -r requirements/supply.txt
	touch $@

.sbom/ready: requirements/sbom.txt
	$(PYTHON) -m pip install --quiet --no-deps --require-hashes --target .sbom -r requirements/sbom.txt
	touch $@

.lint/ready: requirements/build.txt requirements/lint.txt
	$(PYTHON) -m venv .lint
	.lint/bin/$(LOCKED) -r requirements/build.txt
	.lint/bin/$(LOCKED) -r requirements/lint.txt
	touch $@
