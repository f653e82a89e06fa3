# Sets itself up: needs git, make and Python 3.10 or newer.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Where the engines of the tests on real ones are, and the versions of those that are fetched.
export ENGINES ?= $(CURDIR)/.engines
FLINK ?= 1.19.3
PRISM_VERSION ?= v2.77.0
# What an environment of its own launches on Dataflow from, and one that has Beam alone: a worker's.
LAUNCH := $(VENV)-dataflow
WORKER := $(VENV)-worker

.PHONY: demo test test-slow test-pages test-prism test-flink test-dataflow test-packages soak lint docs package \
    bench format engines kafka java prism clean

demo: $(VENV)/demo.installed  ## train on the shipped series, stream them, show what came out
	$(PY) -m pipelines.demo

test: $(VENV)/dev.installed  ## run the tests
	$(PY) -m pytest -n auto

test-slow: $(VENV)/dev.installed  ## run the tests that take minutes
	$(PY) -m pytest -m slow

test-pages: $(VENV)/dev.installed  ## run all that README, docs and demo show
	$(PY) -m pytest -m pages -n auto

test-prism: $(VENV)/dev.installed  ## run those on Prism, with Kafka, and in Java: needs Go, Java and mvn
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory prism; fi
	@if command -v mvn >/dev/null; then $(MAKE) --no-print-directory kafka java; fi
	$(PY) -m pytest -m "(prism or java) and not slow" -n auto --dist loadfile

test-flink: $(VENV)/dev.installed  ## run those on a real Flink cluster and Kafka broker: needs Java and mvn
	@if command -v mvn >/dev/null; then $(MAKE) --no-print-directory engines; fi
	$(PY) -m pytest -m "flink and not soak" --durations=0

soak: $(VENV)/dev.installed engines  ## a TaskManager killed in ten runs, and twenty minutes of load
	$(PY) -m pytest -m soak -s
	$(PY) -m benchmarks.soak --json benchmarks/soak.json

test-dataflow: $(LAUNCH)/installed  ## what Dataflow would be told of every pipeline; no account
	$(LAUNCH)/bin/python -m pytest -m dataflow tests/engines/test_dataflow.py

test-packages: $(LAUNCH)/installed $(WORKER)/installed  ## how workers get the package: needs Go
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory prism $(ENGINES)/boot; fi
	WORKER=$(abspath $(WORKER)) $(LAUNCH)/bin/python -m pytest -m packages tests/engines/test_packages.py

lint: $(VENV)/dev.installed  ## formatter, linter, type checker
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(VENV)/dev.installed  ## the guide as a site, in site/; a link to nowhere is an error
	$(PY) -m deploy.site
	$(VENV)/bin/zensical build --strict --clean

package: $(VENV)/dev.installed  ## the sdist and the wheel, in dist/, and what the index would say
	rm -rf dist
	$(PY) -m build --quiet --outdir dist .
	$(PY) -m twine check --strict dist/*
	$(VENV)/bin/check-wheel-contents dist/*.whl

bench: $(VENV)/bench.installed  ## run every benchmark; installs PyTorch and ONNX Runtime
	$(PY) -m benchmarks.accuracy --json benchmarks/accuracy.json
	$(PY) -m benchmarks.gate --json benchmarks/gate.json
	$(PY) -m benchmarks.kernels --json benchmarks/kernels.json
	$(PY) -m benchmarks.nab --json benchmarks/nab.json
	$(PY) -m benchmarks.online --json benchmarks/online.json
	$(PY) -m benchmarks.prequential --json benchmarks/prequential.json
	$(PY) -m benchmarks.state --json benchmarks/state.json
	$(PY) -m benchmarks.per_key --json benchmarks/per_key.json
	$(PY) -m benchmarks.smoothing --json benchmarks/smoothing.json
	$(PY) -m benchmarks.training --json benchmarks/training.json

format: $(VENV)/dev.installed  ## write the code as the formatter has it
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

engines: $(ENGINES)/job-server.jar $(ENGINES)/flink $(ENGINES)/broker $(ENGINES)/kafka-io

kafka: $(ENGINES)/broker $(ENGINES)/kafka-io  ## a broker, and Beam's transforms for it

java: $(ENGINES)/arrow $(ENGINES)/jdbc-io  ## Arrow's library, and Beam's transforms for SQL

prism: $(ENGINES)/prism  ## Beam's runner in Go

$(ENGINES)/job-server.jar: deploy/local/job-server.xml
	mvn -B -q -f $< package -Dto=$(ENGINES)/job-server

$(ENGINES)/broker $(ENGINES)/kafka-io $(ENGINES)/arrow $(ENGINES)/jdbc-io: $(ENGINES)/%: deploy/local/%.xml
	mvn -B -q -f $< dependency:copy-dependencies -DoutputDirectory=$@
	@touch $@

# PyFlink's source archive holds the jars of a whole cluster.
$(ENGINES)/flink: | $(PY)
	@mkdir -p $@.part
	$(PY) -m pip download --quiet --no-deps --no-binary :all: --dest $@.part \
	    apache-flink-libraries==$(FLINK)
	tar xzf $@.part/*.tar.gz -C $@.part --strip-components=3 --wildcards '*/deps/lib/*'
	rm $@.part/*.tar.gz
	rm -f $@.part/flink-table-* $@.part/flink-scala_* $@.part/flink-cep-*
	mv $@.part $@

$(ENGINES)/prism:
	GOBIN=$(ENGINES) go install github.com/apache/beam/sdks/v2/go/cmd/prism@$(PRISM_VERSION)

# The program that starts a worker in Beam's images: it installs what was staged.
$(ENGINES)/boot:
	GOBIN=$(ENGINES) go install github.com/apache/beam/sdks/v2/python/container@$(PRISM_VERSION)
	mv $(ENGINES)/container $@

clean:
	rm -rf $(VENV) $(LAUNCH) $(WORKER) $(ENGINES) demo_output dist build site

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
	      "name another with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

$(VENV)/demo.installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[plot]'
	@touch $@

$(VENV)/bench.installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[fast,interop]' --group bench
	@touch $@

$(VENV)/dev.installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[fast,plot,interop,music,yaml]' --group dev
	@touch $@

$(LAUNCH)/installed: pyproject.toml
	$(PYTHON) -m venv $(LAUNCH)
	$(LAUNCH)/bin/python -m pip install --quiet --upgrade pip
	$(LAUNCH)/bin/python -m pip install --quiet --editable '.[dataflow,music]' --group launch
	@touch $@

$(WORKER)/installed: pyproject.toml
	$(PYTHON) -m venv $(WORKER)
	$(WORKER)/bin/python -m pip install --quiet 'apache-beam>=2.77'
	@touch $@
