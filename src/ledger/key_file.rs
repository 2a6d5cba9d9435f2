//! Key files: what bittensor's wallets write of a hotkey, or a seed in hexadecimal. What is secret is wiped after use and never said.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ed25519_dalek::SigningKey;
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey, SecretKey};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::signature::{PublicKey, Scheme};
use crate::{Error, Result};

/// No key file is longer.
const MOST_BYTES: u64 = 1 << 16;

/// What to do where a file cannot be used.
const EXTERNAL: &str = "sign with --sign-command and a tool that opens it, or name another key file";

/// A secret key that can sign. It is wiped when it is dropped.
pub(super) enum Secret {
    Sr25519(Box<Keypair>),
    Ed25519(Box<SigningKey>),
}

impl Secret {
    pub(super) fn public(&self) -> PublicKey {
        match self {
            Self::Sr25519(pair) => PublicKey { scheme: Scheme::Sr25519, key: pair.public.to_bytes() },
            Self::Ed25519(key) => PublicKey { scheme: Scheme::Ed25519, key: key.verifying_key().to_bytes() },
        }
    }
}

/// What bittensor's wallets write: of these keys those that they have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyFile {
    private_key: Option<Zeroizing<String>>,
    secret_seed: Option<Zeroizing<String>>,
    secret_phrase: Option<Zeroizing<String>>,
    ss58_address: Option<String>,
    crypto_type: Option<u8>,
}

/// What is wrong with which field.
type Flaw = (&'static str, &'static str, &'static str);

/// The secret of a key file, of the scheme that is asked for, else that the file says, else sr25519.
///
/// # Errors
/// [`Error::File`] naming the field, without what stands there.
pub(super) fn read(path: &Path, scheme: Option<Scheme>) -> Result<Secret> {
    // At once as large as it can get: what outgrows its place leaves a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(1 + MOST_BYTES as usize));
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(|error| Error::io(path, error))?;
    secret(&text, scheme).map_err(|(field, problem, remedy)| Error::File {
        file: path.display().to_string(),
        field: field.into(),
        problem: problem.into(),
        remedy: remedy.into(),
    })
}

fn secret(text: &[u8], scheme: Option<Scheme>) -> Result<Secret, Flaw> {
    // Ansible's vault, and Fernet before it: `bittensor-wallet` tells them by these beginnings, too.
    for (magic, problem) in [
        (&b"$NACL"[..], "it is encrypted (NaCl)"),
        (b"$ANSIBLE_VAULT", "it is encrypted (an Ansible vault)"),
        (b"gAAAAA", "it is encrypted (Fernet)"),
    ] {
        if text.starts_with(magic) {
            return Err(("(file)", problem, "sign with --sign-command and a tool that asks for its password"));
        }
    }
    let text = text.trim_ascii();
    if text.first() == Some(&b'{') {
        return of_wallet(text, scheme);
    }
    let seed = bytes::<32>(text).ok_or((
        "(file)",
        "it is neither a wallet's JSON nor a seed of 32 bytes in hexadecimal",
        "name the file of a hotkey, as ~/.bittensor/wallets/NAME/hotkeys/HOTKEY",
    ))?;
    Ok(match scheme.unwrap_or_default() {
        Scheme::Sr25519 => of_mini_secret(&seed).ok_or(("(file)", "its seed is none", EXTERNAL))?,
        Scheme::Ed25519 => of_ed25519_seed(&seed),
    })
}

/// The bytes that a text gives in hexadecimal, after `0x` or without.
fn bytes<const N: usize>(text: &[u8]) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    const_hex::decode_to_slice(text, bytes.as_mut_slice()).is_ok().then_some(bytes)
}

fn of_secret_key(key: SecretKey) -> Secret {
    Secret::Sr25519(Box::new(key.to_keypair()))
}

/// Substrate expands seeds as Ed25519 does.
fn of_mini_secret(seed: &[u8; 32]) -> Option<Secret> {
    let seed = MiniSecretKey::from_bytes(seed).ok()?;
    Some(of_secret_key(seed.expand(ExpansionMode::Ed25519)))
}

fn of_ed25519_seed(seed: &[u8; 32]) -> Secret {
    Secret::Ed25519(Box::new(SigningKey::from_bytes(seed)))
}

fn of_wallet(text: &[u8], asked: Option<Scheme>) -> Result<Secret, Flaw> {
    // Its own words might repeat what stands in the file.
    let file: KeyFile = serde_json::from_slice(text)
        .map_err(|_| ("(file)", "it is damaged: not the JSON of a key file", "name the file of a hotkey"))?;
    let said = match file.crypto_type {
        None => None,
        Some(0) => Some(Scheme::Ed25519),
        Some(1) => Some(Scheme::Sr25519),
        Some(_) => return Err(("cryptoType", "it is neither 0 (ed25519) nor 1 (sr25519)", EXTERNAL)),
    };
    if asked.is_some() && said.is_some() && asked != said {
        return Err(("cryptoType", "it is of another scheme than --scheme", "leave out --scheme"));
    }
    let address = file.ss58_address.as_deref().ok_or((
        "ss58Address",
        "it is missing, so that nobody can tell whether the key is the right one",
        "write the hotkey's address into it, or name another key file",
    ))?;
    let private = file.private_key.as_ref().map(|key| key.as_bytes());
    let seed = file.secret_seed.as_ref().and_then(|seed| bytes::<32>(seed.as_bytes()));
    let mut found: Vec<Secret> = match asked.or(said).unwrap_or_default() {
        Scheme::Sr25519 => {
            // Scalar and nonce: as schnorrkel has them, or with the scalar times 8 as in expanded Ed25519 keys.
            let private = private.and_then(bytes::<64>);
            let forms = [SecretKey::from_bytes, SecretKey::from_ed25519_bytes];
            let keys = private.iter().flat_map(|key| forms.iter().filter_map(|form| form(key.as_slice()).ok()));
            keys.map(of_secret_key).chain(seed.as_ref().and_then(|seed| of_mini_secret(seed))).collect()
        }
        Scheme::Ed25519 => {
            private.and_then(bytes::<32>).iter().chain(&seed).map(|seed| of_ed25519_seed(seed)).collect()
        }
    };
    if found.is_empty() {
        return Err(match (&file.private_key, &file.secret_seed, &file.secret_phrase) {
            (None, None, Some(_)) => (
                "secretPhrase",
                "it is all that the file has of a secret, and words are not read here",
                "let the wallet write the file again (`btcli wallet regen-hotkey`), or sign with --sign-command",
            ),
            (None, None, None) => {
                ("privateKey", "it is missing: the file holds no secret", "name the file of a hotkey")
            }
            (Some(_), ..) => ("privateKey", "it is no private key of its scheme in hexadecimal", EXTERNAL),
            _ => ("secretSeed", "it is not 32 bytes in hexadecimal", EXTERNAL),
        });
    }
    let right = found.iter().position(|secret| {
        let public = secret.public();
        PublicKey::from_address(address, public.scheme).is_ok_and(|named| named == public)
    });
    right.map(|at| found.swap_remove(at)).ok_or((
        "ss58Address",
        "it is not the address of the secret beside it",
        "the file is damaged, or was put together from two: let the wallet write it again",
    ))
}

/// What to say of a key file that others may read.
pub fn permissions_warning(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
        (mode & 0o044 != 0).then(|| {
            let path = path.display();
            format!("{path}: others may read this key (mode {mode:03o}): run `chmod 600 {path}`")
        })
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}
