#!/bin/sh
# Install what a target of the Makefile needs into .venv:  tools/install.sh WHAT GIGABYTES STAMP
# WHAT is '.' or '.[dev]'. Uses uv if it's on the path, else pip. Errors end in one line that starts with "make:".
set -eu
what=$1 gigabytes=$2 stamp=$3
python=${PYTHON:-python3}

fail() { echo "make: $*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "$python not found: choose another, such as make PYTHON=python3.12"
"$python" -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,13))' ||
  fail "advtrain needs Python 3.11 to 3.13, and $python is $("$python" -V): choose another, such as make PYTHON=python3.12"
"$python" -c 'import ensurepip' 2>/dev/null || fail "$python can't make virtual environments: install its venv package, such as python3-venv"
free=$(df -Pk . | awk 'NR==2 {print int($4/1e6)}')
[ -e .venv/library ] || [ "$free" -ge "$gigabytes" ] || fail "installing PyTorch and the rest needs $gigabytes GB of disk space, and $free GB are free in $(pwd)"
[ -x .venv/bin/python ] || "$python" -m venv .venv

with_uv() { uv pip install --compile-bytecode --python .venv/bin/python --editable "$what"; }
with_pip() {
  pip='.venv/bin/python -m pip --disable-pip-version-check'
  $pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null # made without pip, or interrupted
  # without a network, pip would retry for minutes
  why=$($pip download --quiet --no-deps --retries 1 --timeout 15 --dest .venv/probe tomlkit 2>&1) ||
    fail "can't reach a package index: connect to the network, or set PIP_INDEX_URL or PIP_FIND_LINKS ($(echo "$why" | tail -n 1))"
  rm -rf .venv/probe
  $pip install --editable "$what"
}
with=pip
command -v uv >/dev/null && with=uv
echo "Installing into .venv with $with: PyTorch and the rest, about 7 GB. This takes a few minutes, once."
with_$with || fail "$with couldn't install '$what' into .venv: its last lines say why"
touch "$stamp"
