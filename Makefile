# `make demo` and `make test` work in a fresh clone with nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Test processes at a time; each takes up to 3 GB. JOBS=0 runs all in one.
JOBS ?= 2

.PHONY: help demo test test-all lint docs readme-check package clean

help:
	@echo "make demo      compress a bundled chest X-ray model and open nothing: results/demo/report.html"
	@echo "make test      the tests"
	@echo "make test-all  the tests, the slow ones too"
	@echo "make lint      ruff, the import contract and types"
	@echo "make docs      the site with the reference: build/site/index.html"
	@echo "make package   wheel and sdist: dist/"
	@echo "make readme-check  README's commands in a clean clone and a fresh environment"

$(INSTALLED): setup.cfg pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cxcompress needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[train,app,dev,docs]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/cxcompress demo --output_path results/demo --overwrite

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --durations=40 -m "not slow" $(TESTS)

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

package: $(INSTALLED)
	$(BIN)/python -m build

# Everything that README tells to run, as a newcomer would: 10 to 20 minutes.
readme-check:
	$(PYTHON) docs/readme_check.py

clean:
	rm -rf $(VENV) results build dist *.egg-info
