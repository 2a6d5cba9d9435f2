//! Whole files as text, and text of somebody else made fit to be shown.

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

/// Text of somebody else made harmless for a terminal or a page: what would move its cursor, colour it or turn its direction is spelt out,
/// and so is what cannot be seen. Hotkeys come from the miners.
pub(crate) fn harmless(text: &str) -> String {
    let harms = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if harms(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}
