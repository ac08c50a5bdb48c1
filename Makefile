# Every target sets up what it needs by itself: see hack/setup.
.DEFAULT_GOAL := help
.PHONY: help build install image release demo test lint deny kernel-test kernel-matrix fuzz bench soak
PREFIX ?= /usr/local
SECONDS ?= 30

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the program: target/release/kube-ipvs
	@hack/setup build
	. hack/build-facts && cargo build --locked --release -p kube-ipvs

install: build ## Install it below PREFIX=/usr/local, with manual pages, completions and the kubectl plugin
	@rm -rf target/pages
	@umask 022 && cargo run --quiet --locked -p kube-ipvs-pages -- target/pages
	install -D target/release/kube-ipvs "$(DESTDIR)$(PREFIX)/bin/kube-ipvs"
	ln -sf kube-ipvs "$(DESTDIR)$(PREFIX)/bin/kubectl-ipvs"
	ln -sf kube-ipvs "$(DESTDIR)$(PREFIX)/bin/kubectl_complete-ipvs"
	umask 022 && cp -r target/pages/share "$(DESTDIR)$(PREFIX)/"

image: ## Build the container image; IMAGE=name
	@hack/release image

release: ## Build what a release consists of: VERSION=1.2.3
	@hack/release all $(VERSION)

demo: ## Run the agent on manifests/demo with real traffic, and print what happens
	@hack/progress hack/prepare
	@hack/kernel-test --demo

test: ## Run everything: formatter, clippy, tests, real-kernel tests
	@hack/test

lint: ## Check format and lints only
	@hack/setup build
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

deny: ## Check the dependencies: advisories, licences, sources
	@hack/deny

kernel-test: ## Run the real-kernel tests; CASE=name picks some, KERNEL=path and ON_KERNEL=… the kernel
	@hack/progress hack/prepare
	@hack/kernel-test $(CASE)

kernel-matrix: ## Run them on Debian's kernels from the oldest to the newest, emulated without KVM: hours
	@hack/kernel-matrix $(VERSIONS)

fuzz: ## Run the fuzz targets for SECONDS=30 each, or TARGET=name alone
	@FUZZ_SECONDS=$(SECONDS) hack/fuzz $(TARGET)

bench: ## Measure the pure pipeline, and the sync to a real kernel
	@hack/bench

soak: ## Random churn, kills and drift under traffic; DURATION=seconds SEED=n
	@hack/progress hack/prepare
	@hack/soak $(DURATION) $(SEED)
