# One word per job. Python lives in .venv and Rust in target/, both made on demand; a stamp file in .venv
# stands for each step, so that a second call does only what has changed since.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps share .venv and target/, and a transcript that is read afterwards should be in order.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON ?= python3
CARGO ?= cargo
# LOCKED=--locked makes a Cargo.lock that is out of date an error (CI does).
LOCKED ?=
# ARGS is handed on to pytest (make test-python) and to the benchmarks (make bench).
ARGS ?=
# SERVE=1 keeps the demonstration of `make run` up.
SERVE ?=

VENV := .venv
PY := $(VENV)/bin/python
WHEELS := target/wheels
MATURIN := env -u CONDA_PREFIX VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(VENV)/bin/maturin
OPTIMISED := target/optimised
MODULE := $(wildcard python/asgi_relay/_engine*.so)
RUST := Cargo.toml $(wildcard Cargo.lock build.rs) $(shell find src -name '*.rs' 2>/dev/null)
PACKAGE := $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)
PYTHON_CODE := $(wildcard python tests benchmarks examples release .ci)
MYPY_CODE := $(wildcard python/asgi_relay tests benchmarks examples release .ci)

# One interpreter for every build of the bridge: a change of it would compile pyo3 anew.
export PYO3_PYTHON := $(CURDIR)/$(PY)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

say = @printf '==> %s\n' $(1)
need = @command -v $(firstword $(1)) >/dev/null 2>&1 || \
	{ echo "make: $(firstword $(1)) is missing: $(2)." >&2; exit 1; }

.PHONY: help
help:  ## list these targets
	@echo "asgi-relay: make <target>"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo "A target makes what it needs first. Options: PYTHON=python3.12, ARGS='…', SERVE=1."

# -- what a developer calls ---------------------------------------------------------------------------

.PHONY: run
run: $(VENV)/.demo $(VENV)/.built  ## play real requests through a Relay in a Ravyn app (SERVE=1 stays up)
	$(call say,"starting an auth service and a Ravyn app that relays /auth to it")
	@SERVE=$(SERVE) $(PY) -m examples.demo

.PHONY: test
test: lint-rust test-rust build lint-python wheels-check test-python  ## everything: lints, cargo tests, wheels, pytest

.PHONY: bench
bench: $(VENV)/.bench $(OPTIMISED)/.built  ## measure Relay and the gateway beside their peers (ARGS=… is passed on)
	$(call say,"measuring: python -m benchmarks $(ARGS)")
	@PYTHONPATH="$(CURDIR)/$(OPTIMISED)/package" $(PY) -m benchmarks $(ARGS)

.PHONY: lint
lint: lint-rust build lint-python  ## rustfmt, clippy, rustdoc, ruff, mypy and stubtest, changing nothing

.PHONY: fmt
fmt: check-rust-lints $(VENV)/.dev  ## format the Rust and the Python code and mend what can be mended
	$(call say,"formatting Rust: cargo fmt")
	@$(CARGO) fmt
	$(call say,"formatting Python: ruff check --fix and ruff format")
	@$(PY) -m ruff check --fix $(PYTHON_CODE)
	@$(PY) -m ruff format $(PYTHON_CODE)

.PHONY: build
build: $(VENV)/.built  ## compile the engine into .venv

.PHONY: wheel
wheel: $(OPTIMISED)/.built  ## the wheel as it is published, in dist/: compiled twice, with a training run in between
	@mkdir -p dist
	@rm -f dist/asgi_relay-*.whl
	@cp $(OPTIMISED)/*.whl dist
	@ls dist/*.whl

.PHONY: clean
clean:  ## delete .venv, target/ and every cache
	$(call say,"deleting .venv and target/ and the caches")
	@rm -rf $(VENV) target dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@rm -f python/asgi_relay/*.so python/asgi_relay/*.pyd
	@find $(PYTHON_CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the parts of `make test` -------------------------------------------------------------------------

.PHONY: lint-rust
lint-rust: check-rust-lints $(VENV)/.made  ## cargo fmt --check, clippy, and the docstrings' links
	$(call say,"is the Rust code formatted: cargo fmt --check")
	@$(CARGO) fmt --check
	$(call say,"clippy on the engine and the Python bridge")
	@$(CARGO) clippy $(LOCKED) --all-targets --features python -- -D warnings
	$(call say,"the docstrings' links: cargo doc")
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(LOCKED) --no-deps --features python

.PHONY: test-rust
test-rust: check-cargo  ## cargo test on the engine, without Python
	$(call say,"testing the engine without Python: cargo test")
	@$(CARGO) test $(LOCKED) --no-default-features

.PHONY: lint-python
lint-python: $(VENV)/.dev $(VENV)/.built  ## ruff, mypy, and the stubs against the built module
	$(call say,"linting Python: ruff check and ruff format --check")
	@$(PY) -m ruff check $(PYTHON_CODE)
	@$(PY) -m ruff format --check $(PYTHON_CODE)
	$(call say,"checking types: mypy")
	@$(PY) -m mypy $(MYPY_CODE)
	$(call say,"checking the stubs against the built module: stubtest")
	@$(PY) -m mypy.stubtest asgi_relay._engine

.PHONY: test-python
test-python: $(VENV)/.dev $(VENV)/.built  ## pytest (ARGS=… is passed on)
	$(call say,"testing the whole: pytest $(ARGS)")
	@$(PY) -m pytest -n 4 --dist loadfile $(ARGS)

# Same profile, features and interpreter as `maturin develop`, so this wheel costs no second compilation.
.PHONY: wheels-check
wheels-check: $(VENV)/.built  ## build the abi3 wheel and try it on each CPython that is found
	$(call say,"trying the wheel on each CPython from 3.10 on that this machine has")
	@rm -rf $(WHEELS)
	@$(MATURIN) build --quiet --release $(LOCKED) --interpreter "$(PYO3_PYTHON)" --out $(WHEELS)
	@$(PY) .ci/wheels.py $(WHEELS)

# -- tools --------------------------------------------------------------------------------------------

.PHONY: check-python
check-python:
	$(call need,$(PYTHON),Python 3.10 or newer runs all of this; name yours with PYTHON=…)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and \
		"make: $(PYTHON) is Python %d.%d, and asgi-relay needs 3.10 or newer; name another with PYTHON=…" % v[:2])'

.PHONY: check-cargo
check-cargo:
	$(call need,$(CARGO),it builds the engine; https://rustup.rs installs it)
	$(call need,cc,Rust links with a C compiler; Debian has it as gcc)
	@wanted=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	found=$$($(CARGO) --version | cut -d ' ' -f 2); \
	[ "$$(printf '%s\n' "$$wanted" "$$found" | sort -V | head -n 1)" = "$$wanted" ] || \
		{ echo "make: cargo is $$found, and asgi-relay needs Rust $$wanted or newer (rustup update)." >&2; exit 1; }

.PHONY: check-rust-lints
check-rust-lints: check-cargo
	@for part in fmt clippy; do $(CARGO) $$part --version >/dev/null 2>&1 || \
		{ echo "make: cargo $$part is missing (rustup component add rustfmt clippy)." >&2; exit 1; }; done

# A Debian without python3-venv has no ensurepip; its pip can still fill an environment from outside.
$(VENV)/.made: | check-python
	$(call say,"making $(VENV)")
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) \
			&& $(PYTHON) -m pip --python $(PY) install --quiet pip; } \
		|| { echo "make: $(PYTHON) cannot make a virtual environment (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@touch $@

# .tools is the build backend; the others are dependency groups of pyproject.toml.
$(VENV)/.tools $(VENV)/.demo $(VENV)/.dev $(VENV)/.bench $(VENV)/.release: $(VENV)/.made pyproject.toml
	$(call say,"installing into $(VENV): $(WHAT)")
	@$(PY) .ci/requirements.py $(GROUPS) > $@.txt
	@$(PY) -m pip install --quiet --requirement $@.txt
	@touch $@
$(VENV)/.tools: WHAT := maturin
$(VENV)/.demo: WHAT := what the demonstration needs
$(VENV)/.demo: GROUPS := demo
$(VENV)/.dev: WHAT := frameworks and servers and linters for the tests (a minute the first time)
$(VENV)/.dev: GROUPS := test lint demo
$(VENV)/.bench: WHAT := the peers to measure against
$(VENV)/.bench: GROUPS := bench
$(VENV)/.release: WHAT := what the published wheel is trained with
$(VENV)/.release: GROUPS := release

.PHONY: no-module-yet
no-module-yet:

# `maturin develop` links the Python sources, so a change in them needs no rebuild, and puts the module beside them.
$(VENV)/.built: $(VENV)/.tools pyproject.toml $(RUST) $(if $(MODULE),,no-module-yet) | check-cargo
	$(call say,"building the Rust engine into $(VENV) (some minutes the first time)")
	@$(MATURIN) develop --release $(LOCKED)
	@touch $@

# The wheel, so that a deleted dist/ costs no second making, and its files where they can be imported from.
$(OPTIMISED)/.built: $(VENV)/.release pyproject.toml $(RUST) $(PACKAGE) $(wildcard release/*.py) | check-cargo
	$(call say,"making the wheel as it is published: two builds and a training run")
	@$(PY) -m release --out $(OPTIMISED) --unpack $(OPTIMISED)/package
	@touch $@
