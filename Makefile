# make demo, make test, make lint, make bench: all on a machine with only
# python3.11, pip and make.
PYTHON ?= python3.11
RUN = .venv/bin/python
.DEFAULT_GOAL := help

.PHONY: help demo test lint bench mutants clean

help:
	@echo "make demo   train EDM on the embedded digits, draw samples"
	@echo "make test   the whole test suite"
	@echo "make lint   ruff and mypy"
	@echo "make bench  side-by-side timings, written to docs/results/"
	@echo "make mutants  150 one-token changes of jaxgen/: which do tests notice"

.venv/installed: requirements.txt
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: .venv/installed
	$(RUN) -m experiments.edm digits --run-dir runs/demo

test: .venv/installed
	$(RUN) -m pytest

lint: .venv/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy jaxgen

bench: .venv/installed
	$(RUN) -m benchmarks overhead

mutants: .venv/installed
	$(RUN) -m benchmarks mutants --seed $(or $(SEED),0) --resume

clean:
	rm -rf .venv runs
