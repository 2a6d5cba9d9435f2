# Short names for the scripts; whatever there is to know stands there.

# Format, lints and tests of the default features
check:
    scripts/test --quick

# What has to pass before a change lands
test:
    scripts/test

# Score the round that ships with the code
demo *options:
    scripts/demo {{options}}

# Every kernel and every stage, as rates
bench *options:
    cargo run --release --locked -- bench {{options}}

# Format the code
fmt:
    cargo fmt
