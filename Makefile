# Everything runs in .venv, which is made when it is first needed: `make train` in a fresh clone is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN ?= runs/digits
TESTS ?= tests bench
GPU_PYTHON ?= python3
PACK_PYTHON ?= python3.12
# Benchmarks: PEERS is a Python that has PyTorch and JAX, SIZES, PARTS and ROUNDS choose, QUICK=1 is short.
export AAECORE_PEERS_PYTHON := $(or $(PEERS),$(AAECORE_PEERS_PYTHON))
BENCH := $(if $(QUICK),--quick) $(if $(SIZES),--sizes $(SIZES)) $(if $(PARTS),--parts $(PARTS)) $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: help venv train test sanitize cuda-check gpu gpu-pack bench bench-compare bench-docs lint cross clean

help:
	@echo "make train   train on the embedded digits and draw pictures, into $(RUN) (RUN=... for another folder)"
	@echo "             (TRAIN='--two-dimensional' also trains a model with a 2-D code; all flags: $(BIN)/aaecore train --help)"
	@echo "make test    run the whole test suite, on all cores (TESTS=tests/app for a part)"
	@echo "make sanitize   run the tests of the kernels with the thread, address and undefined-behaviour sanitizers; to compile takes long"
	@echo "make cuda-check   check the CUDA kernels without a GPU: races, bounds, registers, machine code; installs CuPy and NVRTC, 170 MB"
	@echo "make gpu     on a machine with a GPU: build, CUDA tests, our steps, their timeline, peers, NVIDIA's sanitizer; no network"
	@echo "             (BUDGET=seconds, PHASES='tests own', SIZES='a g', OUT=folder, QUICK=1; GPU_PYTHON=python with CuPy, h5py, pytest; GPU_WHEELS=folder"
	@echo "             of wheels it lacks; DRY=1 tries it all without a GPU)"
	@echo "make gpu-pack   without a GPU: compile what one would wait for, into build/gpu-pack (PACK_PYTHON=that machine's version, such as python3.12)"
	@echo "make bench   measure it beside NumPy and, where they are installed, PyTorch and JAX: up to 40 minutes"
	@echo "             (QUICK=1, SIZES='a d', PARTS='steps epochs', ROUNDS=15, PEERS=python with PyTorch and JAX)"
	@echo "make bench-compare   fail where a ratio is worse than the stored one of this machine"
	@echo "make bench-docs      renew the tables in README.md and docs/ from the stored result of this machine"
	@echo "make lint    check style and types"
	@echo "make cross   compile the kernels with clang, for arm64 too (needs: $(BIN)/python -m pip install ziglang)"
	@echo "make venv    make $(VENV) and install the package with all its tools (PYTHON=... for another Python)"
	@echo "make clean   remove what these commands made, but no runs"

venv: $(INSTALLED)

# Changed kernels or build settings need a new build; changed Python code is seen at once by an editable installation.
$(INSTALLED): pyproject.toml setup.py $(wildcard $(addprefix kernels/*/*.,cpp h hpp inc pyx) kernels/*.py)
	$(PYTHON) -c 'import sys; sys.exit("aaecore needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || { echo "== making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "== compiling the kernels, for all instruction sets of this kind of CPU: one to three minutes"
	@$(PIP) install -e .
	@echo "== installing what the command line, tests and benchmarks need: a minute with a fast network"
	@$(PIP) install -q 'aaecore[dev]'
	@touch $@

train: $(INSTALLED)
	@echo "== training: about a minute on two cores"
	$(BIN)/aaecore train --folder $(RUN) --overwrite $(TRAIN)

# Each worker gets one half, in order, and takes from the other's when it is done: what cases share is computed once.
test: $(INSTALLED)
	@echo "== testing on all cores: 25000 tests; to collect them takes some seconds"
	$(BIN)/python -m pytest $(TESTS) --benchmark-disable -rs -n auto --dist worksteal

sanitize: $(INSTALLED)
	.ci/sanitize

# CuPy and the rest of the extra, without building the package again.
$(VENV)/.cuda-check: $(INSTALLED)
	$(PIP) install -q \
		$$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["cuda-check"])')
	touch $@

cuda-check: $(VENV)/.cuda-check
	.ci/cuda-check

# In no environment of its own: GPU machines have CuPy, and often no network. What the pack lacks is compiled there, below build/gpu.
gpu:
	PYTHONPATH=bench$${PYTHONPATH:+:$$PYTHONPATH} $(GPU_PYTHON) -P -m gpu.run $(if $(BUDGET),--budget $(BUDGET)) $(if $(QUICK),--quick) $(if $(DRY),--dry) \
		$(if $(SIZES),--sizes $(SIZES)) $(if $(PHASES),--phases $(PHASES)) $(if $(OUT),--out $(OUT))

gpu-pack: $(VENV)/.cuda-check
	PYTHONPATH=bench $(BIN)/python -P -m gpu.pack --python $(PACK_PYTHON)

bench: $(INSTALLED)
	$(BIN)/python bench/run.py $(BENCH)

bench-compare: $(INSTALLED)
	$(BIN)/python bench/run.py --gate

bench-docs: $(INSTALLED)
	$(BIN)/python bench/run.py --docs

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The kernel files that this machine does not build, and all others with another compiler than its own. clang knows no `GCC ivdep`.
CLANG := $(BIN)/python -m ziglang c++ -std=c++17 -O3 -Wall -Wextra -Werror -Wno-unknown-pragmas -Ikernels/shared -c -o build/cross.o
X86 := -target x86_64-linux-gnu -mcpu=x86_64
ARM64 := -target aarch64-linux-gnu

cross: $(INSTALLED)
	mkdir -p build
	$(CLANG) $(ARM64) kernels/cpu/isa_neon.cpp
	$(CLANG) $(ARM64) kernels/cpu/table.cpp
	$(CLANG) $(ARM64) kernels/cpu/threads.cpp
	$(CLANG) $(X86) kernels/cpu/isa_generic.cpp
	$(CLANG) $(X86)_v2 kernels/cpu/isa_v2.cpp
	$(CLANG) $(X86)_v3 kernels/cpu/isa_v3.cpp
	$(CLANG) $(X86)_v4 kernels/cpu/isa_v4.cpp
	$(CLANG) $(X86)_v4+avx512bf16 kernels/cpu/isa_v4bf16.cpp
	$(CLANG) $(X86) kernels/cpu/table.cpp
	$(CLANG) $(X86) kernels/cpu/threads.cpp

clean:
	rm -rf $(VENV) build dist *.egg-info kernels/*.so .pytest_cache .mypy_cache .ruff_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
