# make run                    train the quickstart and write its page
# make test                   run the notebooks as tests, then pytest
# make figures, make readme   the README's table from benchmarks/results, and the README from nbs/index.ipynb
# All make .venv and install the project first; a later call reuses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test install figures readme

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

figures: .venv/installed
	$(BIN)/python tools/make_figures.py

readme: figures
	$(BIN)/python tools/make_readme.py
