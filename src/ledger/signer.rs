//! Who signs: a key in memory, or a command that holds one.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::key_file::{self, Secret};
use super::signature::{CONTEXT, PublicKey, Scheme, Signature};
use crate::{Error, Result};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much a command may print: a signature is 130 characters and a line's end.
const MOST_BYTES: u64 = 4096;

/// Signs messages. Its secret, where it holds one, is never printed and is wiped when it is dropped.
pub struct Signer {
    public: PublicKey,
    means: Means,
}

enum Means {
    Secret(Secret),
    /// A program and its arguments. Never empty.
    Command(Vec<String>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer by the key in a file: a hotkey as bittensor's wallets write it, or a seed of 32 bytes in hexadecimal. Where no scheme
    /// is asked for it is the file's own, else sr25519.
    ///
    /// # Errors
    /// [`Error::File`] if the file is encrypted, holds no secret or one of another scheme, or names an address that is not its key's.
    pub fn from_key_file(path: &Path, scheme: Option<Scheme>) -> Result<Self> {
        let secret = key_file::read(path, scheme)?;
        Ok(Self { public: secret.public(), means: Means::Secret(secret) })
    }

    /// A signer by a command, which gets the message on its standard input and prints the signature of `public` as 128 hexadecimal
    /// digits, after `0x` or without. The line is split as a shell splits words; no shell runs.
    ///
    /// # Errors
    /// [`Error::Usage`] if the line is empty or ends within quotes.
    pub fn command(command_line: &str, public: PublicKey) -> Result<Self> {
        let refuse = |problem: &str| Error::Usage {
            argument: "--sign-command".into(),
            problem: problem.into(),
            remedy: "give a program and its arguments, quoted as for a shell".into(),
        };
        let words = shlex::split(command_line).ok_or_else(|| refuse("it ends within quotes or after a backslash"))?;
        if words.is_empty() {
            return Err(refuse("it is empty"));
        }
        Ok(Self { public, means: Means::Command(words) })
    }

    /// Whose signatures these are.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a message. A signature is given only if it verifies.
    ///
    /// # Errors
    /// [`Error::Usage`] if the command fails, takes longer than 30 seconds, or prints no signature of this message by this key.
    pub fn sign(&self, message: &[u8]) -> Result<Signature> {
        let signature = match &self.means {
            Means::Secret(Secret::Sr25519(pair)) => Signature(pair.sign_simple(CONTEXT, message).to_bytes()),
            Means::Secret(Secret::Ed25519(key)) => Signature(ed25519_dalek::Signer::sign(&**key, message).to_bytes()),
            Means::Command(words) => ask(words, message, PATIENCE)?,
        };
        if self.public.verify(message, &signature) {
            return Ok(signature);
        }
        let (scheme, public) = (self.public.scheme.name(), self.public);
        Err(refuse(
            format!("what was signed is no {scheme} signature of the message by {public}"),
            "let it sign all of its standard input as it is, with the key of --hotkey and --scheme",
        ))
    }
}

fn refuse(problem: impl Into<String>, remedy: &str) -> Error {
    Error::Usage { argument: "the signer".into(), problem: problem.into(), remedy: remedy.into() }
}

/// Hands the message to a command and reads the signature that it prints.
fn ask(words: &[String], message: &[u8], patience: Duration) -> Result<Signature> {
    let deadline = Instant::now() + patience;
    let Some((program, arguments)) = words.split_first() else {
        return Err(refuse("it is no command", "give one with --sign-command"));
    };
    let mut command = Command::new(program);
    // What it says on standard error is for the person who runs this.
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.spawn().map_err(|error| {
        refuse(format!("{program} did not start: {error}"), "check the command's name: no shell looks for it")
    })?;
    let mut child = Ended(child);
    let (sender, printed) = mpsc::channel();
    // Both ends in threads of their own: it may neither read nor print, and its children may keep the pipes.
    if let Some(mut input) = child.0.stdin.take() {
        let message = message.to_vec();
        // One that needs no input has its own reasons; its signature is verified in any case.
        thread::spawn(move || drop(input.write_all(&message)));
    }
    if let Some(output) = child.0.stdout.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(MOST_BYTES + 1).read_to_end(&mut bytes);
            drop(sender.send(read.map(|_| bytes)));
        });
    }
    let late = || {
        let problem = format!("{program} took longer than {} seconds", patience.as_secs());
        refuse(problem, "let it answer without waiting for a person, or sign with a key file")
    };
    let bytes = match printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(refuse(format!("{program} could not be read: {error}"), "try it by hand")),
        Err(_) => return Err(late()),
    };
    if bytes.len() as u64 > MOST_BYTES {
        let problem = format!("{program} printed more than {MOST_BYTES} bytes");
        return Err(refuse(problem, "let it print the signature alone, in hexadecimal"));
    }
    let status = loop {
        match child.0.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(late()),
            Err(error) => return Err(refuse(format!("{program} could not be waited for: {error}"), "try it by hand")),
        }
    };
    if !status.success() {
        return Err(refuse(format!("{program} failed: {status}"), "try it by hand: it says why on standard error"));
    }
    // What it printed is not repeated: it might be anything, a secret too.
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|problem| {
        let problem = format!("of the {} bytes that {program} printed: {problem}", bytes.len());
        refuse(problem, "let it print the signature alone, as 128 hexadecimal digits")
    })
}

/// A child that does not outlive its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Result<Signature> {
        ask(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], b"message", patience)
    }

    #[test]
    fn a_command_is_bounded_in_time_and_output() {
        let short = Duration::from_millis(300);
        let began = Instant::now();
        for (script, problem) in [
            ("exec sleep 20", "took longer than 0 seconds"),
            // Its child keeps the pipe open after it has ended.
            ("sleep 20 & true", "took longer than 0 seconds"),
            ("exec >&-; exec sleep 20", "took longer than 0 seconds"),
        ] {
            let error = shell(script, short).expect_err(script).to_string();
            assert!(error.contains(problem), "{script}: {error}");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "nobody waits for it");
        let error = shell("yes", PATIENCE).expect_err("endless").to_string();
        assert!(error.contains("more than 4096 bytes"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "and it is ended");
    }

    #[test]
    fn a_command_that_reads_nothing_of_a_long_message_can_answer() {
        let words = ["printf", "0x%0128d\\n", "7"].map(str::to_owned);
        let signature = ask(&words, &vec![b'x'; 1 << 22], PATIENCE).expect("it prints one");
        assert_eq!(signature.to_string(), format!("{:0128}", 7), "as printed");
    }

    #[test]
    fn what_is_no_signature_is_not_repeated() {
        for (script, problem) in [
            ("echo secret; exit 3", "exit status: 3"),
            ("echo secret", "of the 7 bytes that sh printed: it is not 64 bytes in hexadecimal"),
            ("true", "of the 0 bytes"),
            ("kill -9 $$", "signal: 9"),
        ] {
            let error = shell(script, PATIENCE).expect_err(script).to_string();
            assert!(error.contains(problem) && !error.contains("secret"), "{script}: {error}");
        }
    }
}
