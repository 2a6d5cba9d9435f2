//! Who signed what: public keys and signatures as the chain has them.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::ss58;
use crate::{Error, Result};

/// What Substrate chains sign under.
pub(super) const CONTEXT: &[u8] = b"substrate";

/// How a key signs.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Schnorr signatures on Ristretto25519: what hotkeys are unless somebody chose otherwise.
    #[default]
    Sr25519,
    /// EdDSA (RFC 8032).
    Ed25519,
}

impl Scheme {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sr25519 => "sr25519",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl FromStr for Scheme {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = [Self::Sr25519, Self::Ed25519].into_iter().find(|scheme| scheme.name() == name);
        known.ok_or("it is neither sr25519 nor ed25519")
    }
}

/// A hotkey. As JSON it is `"hotkey"`, its SS58 address, beside `"scheme"`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(try_from = "Written", into = "Written")]
pub struct PublicKey {
    /// How it signs: the address does not tell.
    pub scheme: Scheme,
    /// What the chain calls the account: 32 bytes, whether or not they are a point of the curve.
    pub key: [u8; 32],
}

/// A [`PublicKey`] as JSON has it.
#[derive(Serialize, Deserialize)]
struct Written {
    hotkey: String,
    scheme: Scheme,
}

impl From<PublicKey> for Written {
    fn from(public: PublicKey) -> Self {
        Self { hotkey: public.address(), scheme: public.scheme }
    }
}

impl TryFrom<Written> for PublicKey {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        Self::from_address(&written.hotkey, written.scheme)
    }
}

impl PublicKey {
    /// The key of an SS58 address, whatever the address's prefix.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is no address: its checksum is checked.
    pub fn from_address(address: &str, scheme: Scheme) -> Result<Self> {
        let key = ss58::decode(address).map_err(|problem| Error::Usage {
            argument: "hotkey".into(),
            problem: format!("{:?} is no address: {problem}", shortened(address)),
            remedy: "give the hotkey's SS58 address, as wallets show it".into(),
        })?;
        Ok(Self { scheme, key })
    }

    /// The SS58 address, under prefix 42.
    pub fn address(&self) -> String {
        ss58::encode(&self.key)
    }

    /// Whether the signature is this key's of the message, or of the message between `<Bytes>` and `</Bytes>`, in which browsers' wallets
    /// wrap what they sign; the chain's SDK takes both.
    ///
    /// What is not canonical fails: ed25519 by `verify_strict`.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        self.signed(message, signature) || self.signed(&[b"<Bytes>", message, b"</Bytes>"].concat(), signature)
    }

    fn signed(&self, message: &[u8], signature: &Signature) -> bool {
        match self.scheme {
            Scheme::Sr25519 => schnorrkel::PublicKey::from_bytes(&self.key)
                .and_then(|key| key.verify_simple(CONTEXT, message, &schnorrkel::Signature::from_bytes(&signature.0)?))
                .is_ok(),
            Scheme::Ed25519 => ed25519_dalek::VerifyingKey::from_bytes(&self.key)
                .and_then(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)))
                .is_ok(),
        }
    }
}

/// The SS58 address.
impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address())
    }
}

/// The beginning of a text that may be of any length.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A signature of either scheme. As text and JSON it is 128 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(transparent)]
pub struct Signature(#[serde(with = "const_hex::serde::no_prefix")] pub [u8; 64]);

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&const_hex::encode(self.0))
    }
}

impl FromStr for Signature {
    type Err = &'static str;

    /// Reads 128 hexadecimal digits, after `0x` or without.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const_hex::decode_to_array(text).map(Self).map_err(|_| "it is not 64 bytes in hexadecimal")
    }
}
