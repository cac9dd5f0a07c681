PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast check docs reference chaos attack bench-farm miniature clean
demo: .venv/ready ## one talking video through the whole farm
	FARM_HOME=$(CURDIR)/.farm $(BIN)/farm demo examples/single_image.json
test: .venv/tools ## every test, two at a time: many wait for the processes that they start
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder # long files first, not last
test-fast: .venv/tools ## without those that start a whole farm or run the model: two minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"
check: .venv/tools ## style, types and who may import whom
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
docs: .venv/tools ## the reference pages, from the descriptions in the code
	$(BIN)/python -m docs.generate
reference: .venv/tools ## the model's numbers against the original's
	$(BIN)/python -m tests.reference tests/reference/cases/*
chaos: .venv/tools ## break a farm in every known way, and count; ARGS=--long for more of it
	$(BIN)/python -m tests.chaos $(ARGS)
attack: .venv/tools ## decode files that are made to cost much, and measure what they cost
	$(BIN)/python -m tests.attacks $(ARGS)
bench-farm: .venv/tools ## what the farm itself costs, against bare Celery chains
	$(BIN)/python -m benchmarks.chain
miniature: .venv/tools ## train the model that comes with the package
	$(BIN)/python -m miniature
clean:
	rm -rf .venv .farm

.venv/ready: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo "installing into .venv: a few minutes, this once"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[worker,local,monitor,ui]'
	touch $@

.venv/tools: .venv/ready
	@echo "installing what tests and checks need besides, this once"
	$(BIN)/pip install --quiet -c constraints.txt -e '.[worker,local,monitor,ui,quant,kokoro,dev]'
	touch $@
