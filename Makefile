# Set-up, tests and the demo. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= auto

.PHONY: all setup demo test lint native-test bench clean

all: setup

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(shell find native -type f)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# Every regression scenario on every client tree, simulated.
demo: setup
	@$(BIN)/labsim matrix

test: setup lint native-test
	$(BIN)/python -m pytest -n $(JOBS) -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# The C cores alone, under AddressSanitizer and UBSan.
native-test: setup
	@mkdir -p build
	$(BIN)/cmake -S native -B build/sanitize -DLABSIM_SANITIZE=ON >build/sanitize.log 2>&1 || { cat build/sanitize.log; exit 1; }
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

bench: setup
	@$(BIN)/labsim bench

clean:
	rm -rf build $(VENV)
