# One static binary in an empty image: `docker buildx build --platform linux/amd64,linux/arm64 .`
FROM --platform=$BUILDPLATFORM rust:1.95-slim-trixie@sha256:28846ec5a6bcfcddb93f403ba7071bd579787852b2f2ac3839965620e8bd9456 AS build
ARG TARGETARCH
# The target's C compiler is for the TLS library's assembly and for linking.
RUN case "$TARGETARCH" in \
      amd64) echo x86_64-unknown-linux-gnu gcc-x86-64-linux-gnu libc6-dev-amd64-cross ;; \
      arm64) echo aarch64-unknown-linux-gnu gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;; \
      *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac > /target \
 && read -r target compiler libc < /target \
 && if [ "$(dpkg --print-architecture)" = "$TARGETARCH" ]; then compiler=gcc libc=libc6-dev; fi \
 && apt-get update \
 && apt-get install --yes --no-install-recommends "$compiler" "$libc" \
 && rm -rf /var/lib/apt/lists/* \
 && rustup target add "$target"
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    RUSTFLAGS="-C target-feature=+crt-static"
WORKDIR /src
# The dependencies are compiled once and stay in the layer until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY crates/core/Cargo.toml crates/core/
COPY crates/netlink/Cargo.toml crates/netlink/
COPY crates/pages/Cargo.toml crates/pages/
RUN mkdir -p src benches crates/core/src crates/netlink/src crates/pages/src \
 && echo 'fn main() {}' | tee src/main.rs > crates/pages/src/main.rs \
 && touch src/lib.rs crates/core/src/lib.rs crates/netlink/src/lib.rs \
 && sed -i '/^\[\[bench\]\]/,/^$/d; /^\[\[test\]\]/,/^$/d' Cargo.toml \
 && read -r target _ < /target \
 && cargo build --locked --release -p kube-ipvs --target "$target"
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY src src
COPY benches benches
COPY tests tests
# What `version -o json`, the agent's first log line and `/statusz` name, such as `git rev-parse HEAD`.
ARG KUBE_IPVS_COMMIT=unknown
ARG KUBE_IPVS_DATE=unknown
RUN read -r target _ < /target \
 && export KUBE_IPVS_TOOLCHAIN="$(rustc --version)" \
 && touch src/main.rs src/lib.rs crates/*/src/lib.rs \
 && cargo build --locked --release -p kube-ipvs --target "$target" \
 && cp "target/$target/release/kube-ipvs" /kube-ipvs

FROM scratch
COPY --from=build /kube-ipvs /kube-ipvs
ENTRYPOINT ["/kube-ipvs"]
CMD ["run"]
