//! Whole files as text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// The longest text that is read, in bytes, so that a small packed file cannot fill the memory.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Reads a whole file as text, unpacking it where it begins as gzip does. Standard input is `-`.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let failed = |source| Error::io(path, source);
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    input.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        let packed = flate2::read::MultiGzDecoder::new(bytes.as_slice());
        packed.take(MAX_FILE_BYTES + 1).read_to_end(&mut unpacked).map_err(failed)?;
        bytes = unpacked;
    }
    let refuse = |problem: &str, remedy: &str| Error::File {
        file: path.display().to_string(),
        field: "(file)".into(),
        problem: problem.into(),
        remedy: remedy.into(),
    };
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse("more than 1 GiB of JSON", "split the file"));
    }
    String::from_utf8(bytes).map_err(|_| refuse("not UTF-8 text", "write JSON, plain or packed with gzip"))
}
