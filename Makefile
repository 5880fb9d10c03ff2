# Talaria's own commands; `make help` lists them. A Python of 3.11 or later, make and a C compiler are all they need:
# uv and everything else come from the package registries, by the hashes that are committed.

PORT ?= 8080
WORKERS ?= 2
PYTEST ?=
BENCH ?=

UV := .tools/bin/uv
BIN := .venv/bin
OLD_SDK := .tools/anthropic-0

export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
# Compiled once, here: where Python may not write beside its sources, every start would do it again.
export UV_COMPILE_BYTECODE := 1
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help run test check lint types format capabilities bench clean
.DELETE_ON_ERROR:

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1~\2/p' Makefile | tr '~' '\t'

run: .venv/.runtime ## Set up, and run the gateway in front of simulated vendors (PORT=8080)
	@$(BIN)/talaria serve --demo --port $(PORT)

test: check $(OLD_SDK)/.installed ## Set up, check, and run every test (PYTEST="-k stream" for some)
	$(BIN)/pytest -n $(WORKERS) $(PYTEST)

check: lint types ## Lint and check types and imports

lint: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.complete
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.complete ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

capabilities: .venv/.complete ## Run what shows abilities, and write the table
	$(BIN)/pytest -n $(WORKERS) -m ability --capabilities write

bench: .venv/.bench ## Measure it beside a bare proxy, within eight minutes (BENCH="--quick" and others)
	$(BIN)/python -m tests.bench $(BENCH)

clean: ## Remove all that these commands made
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is needed to run, and what is needed to test. Each is made again when what it was made from changes.

.venv/.runtime: uv.lock pyproject.toml .tools/.python
	$(UV) sync --quiet --frozen --no-dev --inexact --python "$$(cat .tools/.python)"
	@$(BIN)/python -m compileall -q gateway providers routing
	@touch $@

.venv/.complete: uv.lock pyproject.toml .tools/.python
	$(UV) sync --quiet --frozen --python "$$(cat .tools/.python)"
	@$(BIN)/python -m compileall -q gateway providers routing
	@touch .venv/.runtime $@

.venv/.bench: uv.lock pyproject.toml .tools/.python
	$(UV) sync --quiet --frozen --no-dev --group bench --inexact --python "$$(cat .tools/.python)"
	@$(BIN)/python -m compileall -q gateway providers routing
	@touch .venv/.runtime $@

# Anthropic's SDK for the API version before today's, beside the one of the lock.
$(OLD_SDK)/.installed: tests/contract/anthropic-0.txt .venv/.complete
	@rm -rf $(OLD_SDK)
	$(UV) pip install --quiet --require-hashes --python $(BIN)/python --target $(OLD_SDK) -r $<
	@touch $@

# A private uv, and a note of the Python that made it.
.tools/.python: .ci/tools.txt
	@python=; for each in $(PYTHON) python3.11 python3 python python3.12 python3.13 python3.14; do \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$each; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Talaria needs Python 3.11 or later; none was found. PYTHON=/path/to/python3.11 names one." >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$python lacks its venv module (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; \
	fi; \
	echo "setting up with $$("$$python" --version)"; \
	"$$python" -m venv --clear .tools && \
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/tools.txt && \
	"$$python" -c 'import sys; print(sys.executable)' > $@
