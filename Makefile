# make demo   sets everything up and runs the main job on the data that ships
# make test   sets everything up and runs the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip reads constraints from here; its own isolated builds see them too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo figures test check format bench mutants docs clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/relaxcert demo

# The table of the README: three seeds of each network.
figures: $(VENV)/.ready
	$(BIN)/relaxcert demo --seeds 3 --out relaxcert-figures

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-json=benchmark.json

# Each seeded fault in a copy of the package; exit status 1 if a test suite lets one pass.
mutants: $(VENV)/.ready
	$(BIN)/python -m tests.mutants.run --jobs 2 --out mutants.md

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs]"
	touch $@

# The documentation site, in build/site; a broken link or name is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) build dist relaxcert-demo relaxcert-figures relaxcert-letters runs benchmark.json
