# make demo    feature extraction, fine-tuning and training from scratch compared on real pictures
# make test    the tests          make check   lint, format, types
# make test-all   the slow ones too: many kills, processes in parallel, a small Ray cluster
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
SOURCES := src tests scripts

.PHONY: demo test test-all check format clean

demo: .venv/demo.installed
	$(BIN)/headstart train -m experiment=demo

test: .venv/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow"

test-all: .venv/dev,ray,slurm.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

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
	rm -rf .venv build dist
