# `make run` and `make test` need Python >= 3.11, make and a C compiler; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint format clean

# The default config, from download to report.
run: .venv/run
	$(BIN)/snakemake --cores all

test: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow
	$(BIN)/python -m seedbed.config.schema workflow/schemas/config.schema.json

clean:
	rm -rf .venv .snakemake results

# The stamps are written last: an installation that was broken off is done again.
.venv/run: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else f'error: Python {sys.version.split()[0]}: expected 3.11 or newer; name one with PYTHON=')"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv/dev: .venv/run envs/requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements-dev.txt
	touch $@
