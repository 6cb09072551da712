# Two commands: `make demo` opens the page on the bundled model and pairs, `make test` runs the whole suite.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 7860
.PHONY: demo test lint browser clean

demo: .venv/installed
	HF_HUB_OFFLINE=1 $(BIN)/python app.py --open --port $(PORT)

test: .venv/installed-dev
	$(BIN)/python -m pytest -q

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# torch first and by its exact version: a bare range may fetch another build of several gigabytes
.venv/installed: requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache
