# make run    train the quickstart and write its page
# make test   run the notebooks as tests, then pytest
# Both make .venv and install the project first; a later call reuses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test install readme

run: .venv/installed
	$(BIN)/advtrain_run quickstart --overwrite

test: .venv/installed
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_test --n_workers 2 --timing
	OMP_NUM_THREADS=1 $(BIN)/pytest -x -q -n 2 --dist loadfile --no-loadscope-reorder tests

install: .venv/installed

.venv/installed: settings.ini setup.py
	@echo 'Installing into .venv; this takes a minute or two ...'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

readme: .venv/installed
	$(BIN)/python tools/make_readme.py
