# make run                    train the quickstart and write its page
# make test                   run the notebooks as tests, then pytest
# make site                   turn the notebooks into pages in _proc, as nbdev does before Quarto builds the site
# make figures, make readme   make the README's table from benchmarks/results, and the README from nbs/index.ipynb
# The first call of each makes .venv and installs what it needs. Later calls start at once.
# They compute with one thread. A small network gains little from a second one, and when something else uses a core,
# threads wait for each other.
PYTHON ?= python3
export PYTHON
BIN := .venv/bin

.PHONY: run test notebooks pytest install site figures readme

run: .venv/library
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/advtrain_run quickstart --overwrite

test: notebooks pytest

notebooks: .venv/development
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/test_notebooks.py

pytest: .venv/development
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -q -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS) tests

install: .venv/development
	@[ ! -d .git ] || PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_install_hooks || echo "make: couldn't install the git hooks"

site: .venv/development
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/make_site.py

.venv/library: settings.ini setup.py
	@tools/install.sh . 8 $@

.venv/development: settings.ini setup.py
	@tools/install.sh '.[dev]' 9 $@
	@touch .venv/library

figures: .venv/development
	$(BIN)/python tools/make_figures.py

readme: figures
	$(BIN)/python tools/make_readme.py
