//! Fixed-point arithmetic as the chain does it.
