//! One room for each stage, in the order in which data flows. Rooms never import each other.

pub mod emission;
pub mod tokens;
pub mod yuma;
