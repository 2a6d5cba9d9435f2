//! What the SDKs raise, in their own words.

use super::python::{self, Version};

/// Why an SDK sends nothing. Display is the message of its exception.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SdkError {
    /// SDKs 9 and 10: there are no weights, or no uids.
    #[error("{}", match .0 { Version::Py311 => "min() arg is an empty sequence", Version::Py312 => "min() iterable argument is empty" })]
    Empty(Version),
    /// SDKs 9 and 10 emit no negative weight.
    #[error("Passed weight is negative cannot exist on chain {}", python::list(.0, |weight| python::repr(*weight)))]
    NegativeWeight(Vec<f64>),
    /// SDKs 9 and 10 emit no negative uid.
    #[error("Passed uid is negative cannot exist on chain {}", python::list(.0, i64::to_string))]
    NegativeUid(Vec<i64>),
    /// SDKs 9 and 10: uids and weights do not pair.
    #[error("Passed weights and uids must have the same length, got {uids} and {weights}")]
    EmitLength {
        /// How many uids there are.
        uids: usize,
        /// How many weights there are.
        weights: usize,
    },
    /// A weight became NaN on the way.
    #[error("cannot convert float NaN to integer")]
    NanToInt,
    /// SDKs 9 and 10: a weight stands where there is no uid.
    #[error("index {index} is out of bounds for axis 0 with size {size}")]
    Index {
        /// The first such place.
        index: usize,
        /// How many places there are.
        size: usize,
    },
    /// SDKs 9 and 10 process arrays only.
    #[error("'{0}' object has no attribute 'astype'")]
    NoArray(&'static str),
    /// A sum or a factor came out as 0.
    #[error("float division by zero")]
    ZeroDivision,
    /// SDK 11: there is nothing to send.
    #[error("All weights are zero; nothing to set.")]
    AllZero,
    /// SDK 11 takes no such weight.
    #[error("Weights must be finite and non-negative.")]
    NotFiniteOrNegative,
    /// SDK 11 takes no uid twice.
    #[error("Duplicate UIDs in weights; each UID may appear once.")]
    DuplicateUids,
    /// SDK 11: uids and weights do not pair.
    #[error("uids and weights must be equal length: {uids} vs {weights}.")]
    Length {
        /// How many uids there are.
        uids: usize,
        /// How many weights there are.
        weights: usize,
    },
    /// SDK 11: a uid has 16 bits.
    #[error("UIDs must be in 0..65535.")]
    UidOutOfU16,
    /// SDK 11: too few weights are left.
    #[error("Subnet {netuid} requires at least {minimum} weights; only {count} are nonzero after normalization.")]
    BelowMinimum {
        /// The subnet.
        netuid: u16,
        /// The fewest that it takes.
        minimum: usize,
        /// How many are left.
        count: usize,
    },
    /// SDK 11, raw: uids and weights do not pair, or a uid has more than 16 bits.
    #[error("Raw weights require equal-length lists and u16 UIDs.")]
    RawPairs,
    /// SDK 11, raw: weights are integers.
    #[error("Raw weights must be integers in 0..65535.")]
    RawNotInteger,
    /// SDK 11, raw: one miner has more than the subnet's limit.
    #[error("Raw weights exceed max_weight_limit; change the integer ratios or subnet limit.")]
    RawExceedsLimit,
}

impl SdkError {
    /// A short name of it, as case files have them.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty(_) => "empty",
            Self::NegativeWeight(_) => "negative_weight",
            Self::NegativeUid(_) => "negative_uid",
            Self::EmitLength { .. } | Self::Length { .. } => "length_mismatch",
            Self::NanToInt => "nan_to_int",
            Self::Index { .. } => "index_error",
            Self::NoArray(_) => "attribute_error",
            Self::ZeroDivision => "zero_division",
            Self::AllZero => "all_zero",
            Self::NotFiniteOrNegative => "not_finite_or_negative",
            Self::DuplicateUids => "duplicate_uids",
            Self::UidOutOfU16 => "uid_out_of_u16",
            Self::BelowMinimum { .. } => "below_min_allowed",
            Self::RawPairs => "raw_pairs",
            Self::RawNotInteger => "raw_not_integer",
            Self::RawExceedsLimit => "raw_exceeds_limit",
        }
    }

    /// The class of the exception.
    pub fn exception(&self) -> &'static str {
        match self {
            Self::Empty(_)
            | Self::NegativeWeight(_)
            | Self::NegativeUid(_)
            | Self::EmitLength { .. }
            | Self::NanToInt => "ValueError",
            Self::Index { .. } => "IndexError",
            Self::NoArray(_) => "AttributeError",
            Self::ZeroDivision => "ZeroDivisionError",
            Self::BelowMinimum { .. } => "ChainError",
            Self::AllZero
            | Self::NotFiniteOrNegative
            | Self::DuplicateUids
            | Self::Length { .. }
            | Self::UidOutOfU16
            | Self::RawPairs
            | Self::RawNotInteger
            | Self::RawExceedsLimit => "BittensorError",
        }
    }
}
