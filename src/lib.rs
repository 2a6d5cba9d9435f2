#![doc = include_str!("../README.md")]

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
mod error;
pub mod fixed;
pub mod ledger;
pub mod matrix;
pub mod models;
pub mod nn;
pub mod pipeline;
pub mod progress;
pub mod report;
pub mod stages;
pub mod state;
mod whole;

pub use error::{Error, Result};

/// Every kernel of the engine. Tests, benches and `doctor` walk this table; adding a kernel is two files and one line.
pub static KERNELS: [&device::Kernel; 34] = [
    &device::ceiling::ARITHMETIC,
    &device::ceiling::COPY,
    &nn::embed::KERNEL,
    &nn::norm::KERNEL,
    &nn::matmul::KERNEL,
    &nn::attention::KERNEL,
    &nn::lookup::KERNEL,
    &nn::linear::KERNEL,
    &nn::rms_norm::KERNEL,
    &nn::rotary::KERNEL,
    &nn::swiglu::KERNEL,
    &nn::head::KERNEL,
    &nn::surprise::KERNEL,
    &nn::pool::KERNEL,
    &nn::normalize::KERNEL,
    &nn::exact::embed::KERNEL,
    &nn::exact::quantise::KERNEL,
    &nn::exact::linear::KERNEL,
    &nn::exact::attention::KERNEL,
    &nn::exact::norm::KERNEL,
    &nn::exact::pool::KERNEL,
    &stages::novelty::products::KERNEL,
    &stages::novelty::nearest::KERNEL,
    &stages::copies::shared::KERNEL,
    &stages::loss::cosine::KERNEL,
    &stages::yuma::device::arithmetic::KERNEL,
    &stages::yuma::device::rows::KERNEL,
    &stages::yuma::device::consensus::KERNEL,
    &stages::yuma::device::incentive::KERNEL,
    &stages::yuma::device::order::KERNEL,
    &stages::yuma::device::purchase::KERNEL,
    &stages::yuma::device::average::KERNEL,
    &stages::yuma::device::earnings::KERNEL,
    &stages::yuma::device::emission::KERNEL,
];
