# `make demo` and `make test` work in a fresh clone with nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Test processes at a time; each takes up to 3 GB. JOBS=0 runs all in one.
JOBS ?= 2

.PHONY: help demo test test-all lint clean

help:
	@echo "make demo      compress a bundled chest X-ray model and open nothing: results/demo/report.html"
	@echo "make test      the tests"
	@echo "make test-all  the tests, the slow ones too"
	@echo "make lint      ruff and the import contract"

$(INSTALLED): setup.cfg pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cxcompress needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[train,app,dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/cxcompress demo --output_path results/demo --overwrite

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "not slow" $(TESTS)

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) results build *.egg-info
