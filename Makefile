# Each command needs only make and a Python from 3.11 on; the environment is made on first use.
#
#   make demo    break the embedded shop, measure it, render the report
#   make test    run the tests
#   make lab     open JupyterLab in notebooks/
#   make check   lint and types
#   make crash   kill the tool, its guardian or both in the middle of every fault (KILLS=2000; needs root)
#   make alarms  how often `chaoslab compare` cries wolf, and how often it misses one (TRIALS=2000; half an hour)
#   make soak    faults that come and go for an hour: memory, descriptors and rows (MINUTES=60; with root, the network's too)
#   make fuzz    damaged journals, campaign folders and scenario files, at random (FUZZ_EXAMPLES=5000; minutes)
#   make coverage-study   hold each interval against known truths (TRIALS=2000 RUNS=2000; about half an hour)
#   make reference   record data/reference anew: both builds of the shop, and a history (about twenty minutes)
#   make gallery draw the figures of docs/gallery and docs/pictures anew
#   make docs    build the site into build/docs; a warning is an error
#   make pictures    take the pictures of a report in docs/pictures anew (needs chromium)
#   make lock    write requirements.lock anew from pyproject.toml (needs uv)

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)

.PHONY: demo test lab check crash alarms soak fuzz coverage-study reference gallery docs pictures lock clean

demo: $(READY)
	$(BIN)/chaoslab demo

test: $(READY)
	$(BIN)/python -m tests

lab: $(READY)
	cd notebooks && ../$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

KILLS := 2000
crash: $(READY)
	$(BIN)/python -m tests.crash --kills $(KILLS)

TRIALS := 2000
alarms: $(READY)
	$(BIN)/python -m tests.false_alarms --trials $(TRIALS)

MINUTES := 60
soak: $(READY)
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

FUZZ_EXAMPLES := 5000
fuzz: $(READY)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/fuzz --timeout=0

RUNS := 2000
coverage-study: $(READY)
	$(BIN)/python -m chaoslab.study --trials $(TRIALS) --runs $(RUNS) --output data/coverage

reference: $(READY)
	$(BIN)/python data/reference/record.py

# Everything comes from the lock file with its hashes checked; the build back end too, hence no build isolation.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "chaoslab needs Python 3.11 or newer; none was found (set PYTHON=...)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $(READY)

gallery: $(READY)
	$(BIN)/python docs/gallery/draw.py
	$(BIN)/python docs/pictures/draw.py

docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --conf-dir docs --doctree-dir build/doctrees . build/docs
	@echo build/docs/index.html

pictures: $(READY)
	$(BIN)/python docs/pictures/sections.py
	$(BIN)/python docs/pictures/report.py

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet \
		--custom-compile-command "make lock" --extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
