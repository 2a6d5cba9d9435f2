//! Block emission.
