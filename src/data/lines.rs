//! Lines of bytes from a file, standard input or gzip, of bounded length.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;

use super::row::Fault;
use super::{Input, MAX_LINE_BYTES, Source};
use crate::{Error, Result};

/// What reading one more line gave.
pub(super) enum Step<'b> {
    /// A line's number and bytes.
    Line(usize, &'b [u8]),
    Fault(usize, Fault),
    End,
}

/// The lines of a source that are not blank, without their ends and without a byte order mark.
pub(super) struct Lines {
    pub(super) name: String,
    path: PathBuf,
    reader: Box<dyn BufRead>,
    gzip: bool,
    buffer: Vec<u8>,
    /// The number of the line read last, from 1.
    pub(super) line: usize,
}

impl Lines {
    pub(super) fn open(source: Source) -> Result<Self> {
        let Source { name, input } = source;
        let (path, reader): (PathBuf, Box<dyn Read>) = match input {
            Input::Stdin => (PathBuf::from("-"), Box::new(std::io::stdin().lock())),
            Input::File(path) => {
                let file = File::open(&path).map_err(|error| Error::io(&path, error))?;
                (path, Box::new(file))
            }
            Input::Reader(reader) => (PathBuf::from(&name), reader),
        };
        let mut reader = BufReader::with_capacity(1 << 17, reader);
        let head = read_head(&mut reader).map_err(|error| Error::io(&path, error))?;
        let gzip = head == GZIP_MAGIC || path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
        let whole = Cursor::new(head).chain(reader);
        let reader: Box<dyn BufRead> = if gzip {
            Box::new(BufReader::with_capacity(1 << 17, flate2::bufread::MultiGzDecoder::new(whole)))
        } else {
            Box::new(whole)
        };
        Ok(Self { name, path, reader, gzip, buffer: Vec::new(), line: 0 })
    }

    fn broken(&self, error: std::io::Error) -> Error {
        if !self.gzip {
            return Error::io(&self.path, error);
        }
        let fault = Fault::new(
            "gzip",
            format!("the compressed stream is damaged or cut off: {error}"),
            "compress the file again, or bring it again",
        );
        fault.at(&self.name, self.line)
    }

    /// Runs `take` over the lines, with their numbers, and ends at the first fault.
    pub(super) fn each(&mut self, mut take: impl FnMut(usize, &[u8]) -> Result<(), Fault>) -> Result<()> {
        loop {
            let outcome = match self.next()? {
                Step::End => return Ok(()),
                Step::Fault(_, fault) => Err(fault),
                Step::Line(line, bytes) => take(line, bytes),
            };
            outcome.map_err(|fault| fault.at(&self.name, self.line))?;
        }
    }

    /// All that is left, at most `most` bytes; `None` if there is more.
    pub(super) fn rest(&mut self, most: usize) -> Result<Option<Vec<u8>>> {
        self.line += 1;
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(most as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.broken(error))?;
        Ok((bytes.len() <= most).then_some(bytes))
    }

    pub(super) fn next(&mut self) -> Result<Step<'_>> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let (mut any, mut too_long) = (false, false);
            loop {
                let chunk = match self.reader.fill_buf() {
                    Ok(chunk) => chunk,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(self.broken(error)),
                };
                if chunk.is_empty() {
                    break;
                }
                any = true;
                let end = chunk.iter().position(|&byte| byte == b'\n');
                let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
                if self.buffer.len() + part.len() > MAX_LINE_BYTES {
                    too_long = true;
                    self.buffer.clear();
                }
                if !too_long {
                    self.buffer.extend_from_slice(part);
                }
                let used = part.len() + usize::from(end.is_some());
                self.reader.consume(used);
                if end.is_some() {
                    break;
                }
            }
            if !any {
                return Ok(Step::End);
            }
            if too_long {
                return Ok(Step::Fault(
                    self.line,
                    Fault::new(
                        "row",
                        format!("is longer than {} MiB", MAX_LINE_BYTES >> 20),
                        "write one JSON object a line",
                    ),
                ));
            }
            let skip = if self.line == 1 && self.buffer.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
            if self.buffer.get(skip..).unwrap_or_default().trim_ascii().is_empty() {
                continue;
            }
            return Ok(Step::Line(self.line, self.buffer.get(skip..).unwrap_or_default()));
        }
    }
}

const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

/// The first two bytes, fewer where the stream has fewer.
fn read_head(reader: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(2);
    reader.take(2).read_to_end(&mut head)?;
    Ok(head)
}
