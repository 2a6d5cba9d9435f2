//! 32 bytes that something is told by.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::Config;

/// A BLAKE3 digest, or another of its length; 64 hexadecimal digits as text.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of bytes as they are: what `b3sum` prints.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// What criteria are told by: [`Config::digest`].
    pub fn of_criteria(config: &Config) -> Self {
        Self::of(config.to_toml().as_bytes())
    }

    /// The digest of a value in its canonical bytes, for one purpose: the same bytes give another digest for another one.
    pub(super) fn of_value(purpose: &str, value: &impl BorshSerialize) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        // A hasher takes whatever it is given.
        let _ = value.serialize(&mut hasher);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| "it is no digest: 64 hexadecimal digits")?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        // The digest of no bytes, as BLAKE3's own test vectors have it.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(b"").to_string(), empty, "as b3sum prints it");
        assert_eq!(empty.parse(), Ok(Digest::of(b"")), "and read again");
        assert!("af13".parse::<Digest>().is_err(), "too short");
        assert_ne!(Digest::of_value("a", &1_u8), Digest::of_value("b", &1_u8), "purposes differ");
    }
}
