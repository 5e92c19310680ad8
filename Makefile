# Every target first makes sure that .venv holds what pyproject.toml and constraints.txt ask for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NOTEBOOKS := $(sort $(wildcard book/*.ipynb))
BENCHMARKS := $(sort $(wildcard benchmarks/bench_*.py))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Builds of PyTorch for the processor alone take a quarter of the space. Where they lie, uv knows, and PyTorch's installation
# page says.
FOR_CPU := $(filter 1,$(CPU))
$(if $(and $(or $(TORCH_FROM),$(FOR_CPU)),$(LOCKED)),$(error $(if $(FOR_CPU),CPU=1,TORCH_FROM) and LOCKED=1 exclude each \
  other: the hashes are those of the builds for any device))
$(if $(and $(TORCH_FROM),$(FOR_CPU)),$(error CPU=1 and TORCH_FROM exclude each other: either says where PyTorch comes from))
TORCH_PAGES = $(TORCH_FROM)/torch/ $(TORCH_FROM)/torchvision/
# An environment of another Python is no answer to a Python that is named.
VERSION_OF := -c 'import sys; print(*sys.version_info[:2])'
# It is named on the command line or in the environment.
NAMED := $(filter command environment,$(firstword $(origin PYTHON)))
ifeq ($(if $(NAMED),named)$(wildcard $(BIN)/python)$(filter distclean clean help,$(MAKECMDGOALS)),named$(BIN)/python)
ifneq ($(shell $(PYTHON) $(VERSION_OF)),$(shell $(BIN)/python $(VERSION_OF)))
$(error $(VENV) was made by another Python than $(PYTHON): run make distclean, then this again)
endif
endif

.PHONY: help setup book test test-book test-plain test-portable pdf release lint format lock bench clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make book       execute the notebooks and build the book: _build/html/index.html"
	@echo "make test       run the test suite, then every notebook"
	@echo "make test-book  test the built book, in the browsers that are installed"
	@echo "make test-plain  run every notebook that the built book gives to readers, away from the repository"
	@echo "make test-portable  every notebook again, with the instructions that any x86 processor has"
	@echo "make pdf        print the built book into one PDF;  make release builds wheel, book and PDF into dist/"
	@echo "make lint       check style, types and spelling;  make format mends the style"
	@echo "make bench      run the side-by-side measurements in benchmarks/"
	@echo "make lock       write the versions now in .venv to constraints.txt, and with uv their hashes to requirements.lock"
	@echo "CPU=1           with any of them: take PyTorch's builds for the processor alone, which uv finds"
	@echo "TORCH_FROM=URL  with any of them: take PyTorch from there"
	@echo "LOCKED=1        with any of them: install only files whose hashes requirements.lock knows"
	@echo "make clean      remove what the targets built;  make distclean removes .venv too"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "'$(PYTHON)' is not Python 3.11 or newer: install one and name it, for instance: make PYTHON=python3.12 book"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "'$(PYTHON)' cannot make a virtual environment: install its venv module (on Debian: apt install python3-venv)."; exit 1; }
	$(if $(FOR_CPU),@command -v $(BIN)/uv >/dev/null || $(BIN)/python -m pip install --quiet 'uv>=0.8' || \
	  { echo "CPU=1 needs uv and pip could not install it: put uv into $(BIN) or name the place of the builds by TORCH_FROM=URL"; exit 1; })
	$(if $(FOR_CPU),$(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu --no-deps -c constraints.txt torch torchvision)
	$(if $(TORCH_FROM),PIP_FIND_LINKS='$(TORCH_PAGES)' $(BIN)/python -m pip install --quiet --no-deps --no-index -c constraints.txt torch torchvision)
	$(if $(LOCKED),$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock)
	$(BIN)/python -m pip install --quiet $(if $(LOCKED),--no-deps --no-build-isolation) -c constraints.txt -e '.[book,test,cluster,lab]'
	@touch $@

# No altered artefact is printed. Then all is built from nothing each time: an unchanged notebook must still run again when
# a helper or an artefact changed. The notebooks run side by side into a cache, from which the pages are written; one that
# fails is told by the step after it. Their kernels read no settings of the reader's IPython, none of them warns that it
# speaks to this machine alone without encryption, and no bar of a computation that is over stays on a page.
RUNS := _build/.jupyter_cache
KERNELS := _build/ipython
book: $(INSTALLED)
	$(BIN)/python -m helpers verify
	rm -rf _build/html _build/.doctrees $(RUNS) && mkdir -p $(RUNS)
	$(BIN)/jcache notebook -p $(RUNS) add $(NOTEBOOKS)
	mkdir -p $(KERNELS)/profile_default && echo 'c.IPKernelApp.log_level = "ERROR"' > $(KERNELS)/profile_default/ipython_kernel_config.py
	IPYTHONDIR=$(abspath $(KERNELS)) TQDM_DISABLE=1 $(BIN)/jcache project -p $(RUNS) execute --executor local-parallel --timeout 900
	$(BIN)/jupyter-book build . --all -W --keep-going
	$(BIN)/python tools/check_book.py

# Tests share the processors by files, and end soon where something broke them all: most wait before they fail. What needs
# a built book is for test-book.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --maxfail 20

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/browser --ignore=tests/book/test_built_book.py
	$(if $(NOTEBOOKS),$(BIN)/python -m pytest $(PARALLEL) --nbval-lax $(NOTEBOOKS))

test-book: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) tests/book/test_built_book.py tests/book/test_plain_notebooks.py tests/book/test_same_html.py tests/browser

# A reader has the package and one notebook in a folder of their own: nothing of the repository lies beside it.
test-plain: $(INSTALLED)
	@test -d _build/html/_sources/book || { echo "There is no built book: run make book first."; exit 1; }
	away=$$(mktemp -d) && trap 'rm -rf "$$away"' EXIT && cp _build/html/_sources/book/*.ipynb book/conftest.py "$$away" && \
	  cd "$$away" && $(abspath $(BIN))/python -m pytest $(PARALLEL) -p no:cacheprovider --nbval-lax .

# Every processor must print the digits on record; a training in single precision carries a last bit into them.
OLD_PROCESSOR := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem
test-portable: $(INSTALLED)
	$(OLD_PROCESSOR) $(BIN)/python -m pytest $(PARALLEL) --nbval-lax $(NOTEBOOKS)

pdf: $(INSTALLED)
	$(BIN)/python tools/make_pdf.py

# One version number, that of pyproject.toml; a test holds the package, CITATION.cff and the Colab cells to it.
release: book pdf
	rm -rf dist && mkdir dist
	$(BIN)/python -m pip wheel --quiet $(if $(LOCKED),--no-build-isolation) --no-deps --wheel-dir dist .
	tar -C _build -czf dist/flatness-and-information-html.tar.gz html
	cp _build/flatness-and-information.pdf CITATION.cff dist/
	@ls -l dist

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/normalize_notebooks.py --check $(NOTEBOOKS)
	$(BIN)/python tools/check_numbers.py
	$(BIN)/python tools/draw_map.py --check
	$(BIN)/python tools/check_cells.py
	$(BIN)/codespell
	$(BIN)/python tools/check_spelling.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tools/normalize_notebooks.py $(NOTEBOOKS)

LOCK_HEAD := '\# Every package of constraints.txt with the hashes of its files, for `make LOCKED=1`: pip then takes no other file.'
lock: $(INSTALLED)
	$(BIN)/python tools/write_constraints.py
	@command -v uv >/dev/null || { echo "requirements.lock needs uv, which is not installed: pip install uv, then this again."; exit 1; }
	(printf '%s\n' $(LOCK_HEAD) '# Written by `make lock`.'; uv pip compile --quiet pyproject.toml --all-extras -c constraints.txt \
	  --generate-hashes --universal --python-version 3.11.9 --no-header --no-annotate) > requirements.lock

bench: $(INSTALLED)
	@for script in $(BENCHMARKS); do $(BIN)/python $$script || exit 1; done
	@$(if $(BENCHMARKS),,echo "There is no benchmarks/bench_*.py to run.")

clean:
	rm -rf _build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests tools book benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV)
