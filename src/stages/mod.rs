//! One room for each stage, in the order in which data flows. Rooms never import each other.

pub mod tokens;

pub mod encode;

pub mod novelty;

pub mod copies;

pub mod language;
pub mod loss;

pub mod score;

pub mod weights;

pub mod conform;

pub mod yuma;

pub mod emission;

pub mod eval;
