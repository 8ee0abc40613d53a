# Set-up, tests and the demo. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= auto

.PHONY: all setup demo test lint native-test fuzz bench clean

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
	$(BIN)/ruff format --quiet --check labsim tests scenarios
	$(BIN)/mypy

# The C cores alone, under AddressSanitizer and UBSan.
native-test: setup
	@mkdir -p build
	$(BIN)/cmake -S native -B build/sanitize -DLABSIM_SANITIZE=ON >build/sanitize.log 2>&1 || { cat build/sanitize.log; exit 1; }
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

# The codec's fuzzer on a module built with AddressSanitizer and UBSan, for FUZZ seconds.
FUZZ ?= 60
fuzz: setup
	$(BIN)/cmake -S native -B build/fuzz -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS="-O1 -fsanitize=address,undefined" >build/fuzz.log
	$(BIN)/cmake --build build/fuzz --target _wire >>build/fuzz.log
	ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=. \
	  LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
	  $(BIN)/python tests/parity/wire_fuzz.py --module build/fuzz/_wire*.so --seconds $(FUZZ)

bench: setup
	@$(BIN)/labsim bench

clean:
	rm -rf build $(VENV)
