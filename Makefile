# make demo: the whole way on the embedded demo.   make test: every check.   Both install into .venv first.
SHELL := /bin/bash
.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:
.PHONY: demo test clean

PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin
CONFIGS := config.yaml $(wildcard config/*.yaml)
export OMP_NUM_THREADS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

demo: .venv/.installed
	@snakemake --cores $(CORES)
	@python -m vlmrank.demo.verdict

test: .venv/.installed-dev
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile rules
	snakemake --lint
	@python tests/dry_runs.py $(CONFIGS)
	@pytest -n 2 --dist loadfile

clean:
	rm -rf results resources/demo logs benchmarks/results .snakemake build

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "make: vlmrank needs Python 3.11 or newer, $(PYTHON) is none; try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null \
	    || { echo "make: $(PYTHON) has no venv; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "make: installing into .venv, which takes some minutes"
	@$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml | .venv/bin/python
	@python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

.venv/.installed-dev: pyproject.toml | .venv/bin/python
	@python -m pip install -qq --disable-pip-version-check --editable ".[dev]"
	@touch $@ .venv/.installed
