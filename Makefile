# Every target sets up what it needs by itself: see hack/setup.
.DEFAULT_GOAL := help
.PHONY: help demo test lint deny kernel-test fuzz bench soak setup
SECONDS ?= 30

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## Run the agent on manifests/demo with real traffic, and tell what happens
	@hack/kernel-test --demo

test: ## Run everything: formatter, clippy, tests, real-kernel tests
	@hack/test

lint: ## Check format and lints only
	@hack/setup build
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

deny: ## Check the dependencies: advisories, licences, sources
	@hack/deny

kernel-test: setup ## Run the real-kernel tests; CASE=name picks some, KERNEL=path another kernel
	@hack/kernel-test $(CASE)

fuzz: ## Run the fuzz targets for SECONDS=30 each, or TARGET=name alone
	@FUZZ_SECONDS=$(SECONDS) hack/fuzz $(TARGET)

bench: setup ## Measure the pure pipeline, and the sync to a real kernel
	@hack/bench

soak: setup ## Random churn, kills and drift under traffic; DURATION=seconds SEED=n
	@hack/soak $(DURATION) $(SEED)

setup:
	@hack/setup
