# Footnote: `make quickstart` for a first answer, `make test` for the whole suite, `make help` for the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO         ?= go
BIN        := bin/footnote
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TESTFLAGS  ?= -race -timeout 45m
# Packages whose tests start Postgres or engines share two cores badly; -p bounds how many run at once.
TESTP      ?= 2

.PHONY: eval help quickstart conformance test check fmt bench build serve deps clean fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/footnote
	@$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(BIN) ./cmd/footnote

quickstart: build ## a first answer from real documents, with nothing configured
	@$(BIN) quickstart

serve: build ## run the service at http://127.0.0.1:8080
	@$(BIN) serve

test: deps ## the whole suite: real Postgres, real engines, a real browser, with the race detector
	$(GO) test $(TESTFLAGS) -p $(TESTP) ./...

conformance: deps build ## real clients and the Workers runtime, unchanged, against `footnote models serve`
	@FOOTNOTE=$(CURDIR)/$(BIN) modelhost/conformance/run

check: deps ## gofmt, vet, staticcheck, tidy modules
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt these files:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	$(GO) mod tidy -diff
	@echo "check: all good"

fmt: ## format the code
	@gofmt -w $$(git ls-files '*.go')

bench: ## benchmarks, as ratios against the bare engine and bare SQL; about ten minutes
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 40m ./store ./cmd/footnote
	$(GO) test -run '^$$' -bench . -benchmem -timeout 20m ./ingest ./retrieval ./workersai ./api ./embedded ./modelhost

EVALDATA ?= $(or $(FOOTNOTE_EVAL_DATA),../shared/data)

eval: build ## quality on the evaluation collections (FOOTNOTE_EVAL_DATA), printed and written to docs/quality.md; about an hour the first time
	@test -d $(EVALDATA) || { echo "eval: $(EVALDATA) is missing: set FOOTNOTE_EVAL_DATA to the folder with the evaluation collections"; exit 1; }
	@$(BIN) quality $(EVALDATA) -o docs/quality.md
	@FOOTNOTE_EVAL_DATA=$$(realpath $(EVALDATA)) .ci/quality | tee -a docs/quality.md

fuzz: ## every fuzz target for a short while (FUZZTIME=30s)
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} $$p; \
	  done; done

deps: ## what the tests need beyond Go: a browser
	@.ci/deps

clean: ## remove what was built
	@rm -rf bin
