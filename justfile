# Short names for the commands that README gives plainly. `.ci/run` runs the same ones.

# What a commit must pass on this machine: format, lints, tests on SQLite, documentation
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo test --locked
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --locked

# All tests, the store's on PostgreSQL too (a throw-away cluster; see .ci/postgres)
test-pg *args:
    #!/usr/bin/env bash
    set -euo pipefail
    trap '.ci/postgres stop' EXIT
    TEST_DATABASE_URL=$(.ci/postgres start)
    export TEST_DATABASE_URL REQUIRE_POSTGRES=1
    cargo test --locked {{args}}

# Stock clients against a real identity provider and the debug binary
interop:
    cargo build --locked
    tests/interop/run target/debug/taskgrant

# Generated requests against openapi.yaml, by schemathesis
contract *args:
    cargo build --locked
    tests/contract/run {{args}}

# What takes long and must hold before a release: faults under load, fuzzing, and the speed. Root's rights make disk-full a real mount
drills:
    cargo build --release --locked
    tests/drills/run --page docs/reference/drills.md target/release/taskgrant
    tests/contract/run --examples 100 target/release/taskgrant
    fuzz/run --page docs/reference/fuzzing.md
    cargo bench --locked --bench exchange

# Each fuzz target for so many seconds, two at a time. Needs nightly and cargo-fuzz; says how to get them
fuzz seconds="600":
    fuzz/run --seconds {{seconds}}

# The server with its demo tenant, on loopback
run *args:
    cargo run --locked -- dev {{args}}

# Advisories, licences and banned crates (needs cargo-deny, fetches the advisory database)
deny:
    cargo deny check

# Everything, as the build machine runs it
ci:
    .ci/run
