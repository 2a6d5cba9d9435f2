//! Who signs: options of every command that can.

use std::path::PathBuf;

use super::Console;
use crate::Result;
use crate::ledger::{PublicKey, Scheme, Signer, permissions_warning};

/// How something is signed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SignArgs {
    /// Sign with the hotkey in this file, as bittensor's wallets write it unencrypted, or with a seed of 32 bytes in hexadecimal
    #[arg(long, value_name = "KEYFILE", conflicts_with = "sign_command")]
    sign: Option<PathBuf>,
    /// Sign with this command: the message goes to its standard input, 128 hexadecimal digits come back. Words are split as a shell does
    #[arg(long, value_name = "COMMAND", requires = "hotkey")]
    sign_command: Option<String>,
    /// Whose signature the command gives
    #[arg(long, value_name = "SS58", requires = "sign_command")]
    hotkey: Option<String>,
    /// sr25519 or ed25519 [default: what the key file says, else sr25519]
    #[arg(long, value_name = "SCHEME")]
    scheme: Option<Scheme>,
}

impl SignArgs {
    /// Who signs, if anybody is to.
    pub(super) fn signer(&self, console: &Console) -> Result<Option<Signer>> {
        if let Some(path) = &self.sign {
            if let Some(warning) = permissions_warning(path) {
                console.warn(&warning);
            }
            return Signer::from_key_file(path, self.scheme).map(Some);
        }
        let (Some(command), Some(hotkey)) = (&self.sign_command, &self.hotkey) else { return Ok(None) };
        let public = PublicKey::from_address(hotkey, self.scheme.unwrap_or_default())?;
        Signer::command(command, public).map(Some)
    }
}
