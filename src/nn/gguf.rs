//! GGUF files: what they say of a model, and their tensors one at a time, so that a model needs memory for one copy of itself.
//!
//! After the format's specification (`docs/gguf.md` of ggml-org/ggml), versions 2 and 3, little-endian. The file is not
//! trusted: every length and offset is compared with the file's before memory is taken for what it claims.
//!
//! A reader of our own, since no crate was found sound (looked at in November 2026): `gguf` 0.1.2 has not changed since
//! 2023; `gguf-rs` 0.1.8 brings a command line with it, repairs broken text, lets the last of several equal keys win and
//! compares no offset with the file; `ggus` 0.5.1 reads version 3 only, through `unsafe`; the one in `candle-core` 0.11.1
//! belongs to a whole tensor library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::{Error, Result};

/// What stands before the tensors is refused beyond this many bytes. Large vocabularies take some 20 MB.
const LARGEST_HEADER: u64 = 100 << 20;
/// The most keys, and the most tensors. Published files have some dozens and some thousands.
const MOST_ENTRIES: u64 = 1 << 16;
/// Bytes of a key or of a tensor's name. The format stops tensors' names at 64.
const LONGEST_NAME: u64 = 255;
/// Dimensions of a tensor, by the format.
const MOST_DIMENSIONS: u32 = 4;
/// Where a tensor may begin, if the file does not say: at multiples of this.
const ALIGNMENT: u64 = 32;
/// The key that says otherwise.
const ALIGNMENT_KEY: &str = "general.alignment";
/// Alignments beyond this are refused: they are page sizes at most.
const LARGEST_ALIGNMENT: u64 = 1 << 16;

/// How a tensor's numbers lie in a file. Blocks are of 32 numbers (`ggml-common.h` of ggml).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
    /// Blocks of a scale in f16 and 32 signed bytes.
    Q8_0,
    /// Blocks of a scale in f16 and 32 numbers of four bits, which count from -8.
    Q4_0,
    /// Blocks of a scale and a least number in f16 and 32 numbers of four bits.
    Q4_1,
}

/// The format's names of its types, by their numbers; unused numbers have none.
const TYPE_NAMES: [&str; 40] = [
    "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64",
    "F64", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "", "", "", "MXFP4",
];

impl TensorType {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Numbers of a block, and the bytes it takes.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
        }
    }
}

/// What a key says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A whole number of any width.
    Integer(i128),
    /// A float of either width.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// Several 32-bit whole numbers.
    Integers(Vec<i64>),
    /// Several of something that no model needs here: looked at and not kept.
    Others,
}

impl Value {
    /// What it is, in a word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a bool",
            Self::Text(_) => "a text",
            Self::Texts(_) | Self::Integers(_) | Self::Others => "an array",
        }
    }
}

#[derive(Debug)]
struct Info {
    /// From the one that varies slowest, as everywhere here; the file has them the other way round.
    shape: Vec<usize>,
    kind: TensorType,
    /// From the beginning of the file.
    start: u64,
    bytes: usize,
}

/// An open GGUF file.
#[derive(Debug)]
pub(crate) struct Gguf {
    name: String,
    file: File,
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Info>,
    /// Names of tensors that nobody has read yet.
    unread: BTreeSet<String>,
}

impl Gguf {
    /// Opens the file and checks all that it says of itself against its length.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] or [`Error::Tensor`] about what does not fit.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let metadata = file.metadata().map_err(|error| Error::io(path, error))?;
        if metadata.is_dir() {
            return Err(Error::io(path, std::io::ErrorKind::IsADirectory.into()));
        }
        let (name, length) = (path.display().to_string(), metadata.len());
        let mut header = Header { name: &name, file: BufReader::new(&file), at: 0, end: length.min(LARGEST_HEADER) };

        let magic = header.bytes::<4>("magic")?;
        if magic != *b"GGUF" {
            return Err(header.refuse("magic", "it does not begin with the letters GGUF"));
        }
        let version = header.u32("version")?;
        if !(2..=3).contains(&version) {
            let big = (2..=3).contains(&version.swap_bytes());
            let problem = format!("{version} is not supported; 2 and 3 are");
            return Err(
                header.refuse("version", if big { "it is big-endian, little-endian is supported" } else { &problem })
            );
        }
        let count = header.count("tensor_count")?;
        let keys = header.count("metadata_kv_count")?;
        let mut values = BTreeMap::new();
        for _ in 0..keys {
            let key = header.name("metadata")?;
            let value = header.value(&key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(header.refuse(&key, "it is there twice"));
            }
        }
        let alignment = match values.get(ALIGNMENT_KEY) {
            None => ALIGNMENT,
            Some(Value::Integer(value)) => u64::try_from(*value)
                .ok()
                .filter(|value| value.is_power_of_two() && *value <= LARGEST_ALIGNMENT)
                .ok_or_else(|| {
                    let problem = format!("{value} is no power of two between 1 and {LARGEST_ALIGNMENT}");
                    header.refuse(ALIGNMENT_KEY, &problem)
                })?,
            Some(value) => return Err(header.refuse(ALIGNMENT_KEY, &format!("it is {}, not an integer", value.kind()))),
        };
        let mut tensors = BTreeMap::new();
        for _ in 0..count {
            let (tensor, info) = header.tensor(alignment)?;
            if tensors.contains_key(&tensor) {
                return Err(refuse_tensor(&name, &tensor, "it is there twice"));
            }
            tensors.insert(tensor, info);
        }

        let data = header.at.next_multiple_of(alignment);
        let mut ranges: Vec<(u64, u64, &str)> = Vec::with_capacity(tensors.len());
        for (tensor, info) in &mut tensors {
            let start = info.start.checked_add(data);
            let end = start.and_then(|start| start.checked_add(info.bytes as u64)).filter(|end| *end <= length);
            let (Some(start), Some(end)) = (start, end) else {
                let problem = format!(
                    "its {} bytes begin at byte {} of the data, and the data have {} bytes",
                    info.bytes,
                    info.start,
                    length.saturating_sub(data)
                );
                return Err(refuse_tensor(&name, tensor, &problem));
            };
            info.start = start;
            ranges.push((start, end, tensor));
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(_, end, before), (start, _, tensor)] = pair
                && start < end
            {
                let problem = format!("it overlaps with {}", before.escape_debug());
                return Err(refuse_tensor(&name, tensor, &problem));
            }
        }
        let unread = tensors.keys().cloned().collect();
        drop(header);
        Ok(Self { name, file, values, tensors, unread })
    }

    /// The file, as errors call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What `key` says.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Every key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The error for a `key` whose value cannot be taken.
    pub(crate) fn refuse(&self, key: &str, problem: &str) -> Error {
        refuse(
            &self.name,
            key,
            problem,
            "name a GGUF file of a model of the Llama family with a tokenizer of the kind gpt2",
        )
    }

    /// The whole number under `key`, `otherwise` without it.
    pub(crate) fn integer(&self, key: &str, otherwise: Option<u64>) -> Result<u64> {
        match self.value(key) {
            Some(Value::Integer(value)) => {
                u64::try_from(*value).map_err(|_| self.refuse(key, &format!("{value} is below 0")))
            }
            Some(value) => Err(self.refuse(key, &format!("it is {}, not an integer", value.kind()))),
            None => otherwise.ok_or_else(|| self.refuse(key, "it is missing")),
        }
    }

    /// The float under `key`, `otherwise` without it.
    pub(crate) fn float(&self, key: &str, otherwise: Option<f64>) -> Result<f64> {
        match self.value(key) {
            Some(Value::Float(value)) => Ok(*value),
            Some(value) => Err(self.refuse(key, &format!("it is {}, not a float", value.kind()))),
            None => otherwise.ok_or_else(|| self.refuse(key, "it is missing")),
        }
    }

    /// The text under `key`.
    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        match self.value(key) {
            Some(Value::Text(text)) => Ok(text),
            Some(value) => Err(self.refuse(key, &format!("it is {}, not a text", value.kind()))),
            None => Err(self.refuse(key, "it is missing")),
        }
    }

    /// The texts under `key`.
    pub(crate) fn texts(&self, key: &str) -> Result<&[String]> {
        match self.value(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            Some(value) => Err(self.refuse(key, &format!("it is {}, not an array of texts", value.kind()))),
            None => Err(self.refuse(key, "it is missing")),
        }
    }

    /// The whole numbers under `key`.
    pub(crate) fn integers(&self, key: &str) -> Result<&[i64]> {
        match self.value(key) {
            Some(Value::Integers(integers)) => Ok(integers),
            Some(value) => Err(self.refuse(key, &format!("it is {}, not an array of 32-bit integers", value.kind()))),
            None => Err(self.refuse(key, "it is missing")),
        }
    }

    /// The shape of a tensor, if it is there.
    pub(crate) fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.tensors.get(tensor).map(|info| info.shape.as_slice())
    }

    /// Reads `tensor`, which must have `shape`, as it lies in the file.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub(crate) fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<(TensorType, Vec<u8>)> {
        let info = self.tensors.get(tensor).ok_or_else(|| refuse_tensor(&self.name, tensor, "it is missing"))?;
        if info.shape != shape {
            let problem = format!("its shape is {:?}, the config calls for {shape:?}", info.shape);
            return Err(refuse_tensor(&self.name, tensor, &problem));
        }
        let mut bytes = vec![0; info.bytes];
        self.file
            .seek(SeekFrom::Start(info.start))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| refuse_tensor(&self.name, tensor, &error.to_string()))?;
        self.unread.remove(tensor);
        Ok((info.kind, bytes))
    }

    /// The first tensor that was not read.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.unread.first().map(String::as_str)
    }
}

fn refuse(file: &str, field: &str, problem: &str, remedy: &str) -> Error {
    Error::File {
        file: file.into(),
        field: field.escape_debug().to_string(),
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

fn refuse_tensor(file: &str, tensor: &str, problem: &str) -> Error {
    Error::Tensor { file: file.into(), tensor: tensor.escape_debug().to_string(), problem: problem.into() }
}

/// What stands before the data, read from its beginning; nothing beyond `end` is read or taken memory for.
struct Header<'a> {
    name: &'a str,
    file: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl Header<'_> {
    fn refuse(&self, field: &str, problem: &str) -> Error {
        refuse(self.name, field, problem, "the file is damaged or no GGUF file: fetch it again, or name another one")
    }

    /// Says that `field` needs `bytes` more, if they are there.
    fn take(&mut self, bytes: u64, field: &str) -> Result<()> {
        if bytes > self.end - self.at {
            let problem = format!("it claims {bytes} bytes at byte {}, where {} are left", self.at, self.end - self.at);
            return Err(self.refuse(field, &problem));
        }
        self.at += bytes;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        self.take(N as u64, field)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|error| self.refuse(field, &error.to_string()))?;
        Ok(bytes)
    }

    fn u32(&mut self, field: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(field)?))
    }

    fn u64(&mut self, field: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(field)?))
    }

    /// A number of entries to come.
    fn count(&mut self, field: &str) -> Result<u64> {
        let count = self.u64(field)?;
        if count > MOST_ENTRIES {
            return Err(self.refuse(field, &format!("{count} is more than {MOST_ENTRIES}")));
        }
        Ok(count)
    }

    /// A text, after its length.
    fn text(&mut self, field: &str) -> Result<String> {
        let length = self.u64(field)?;
        self.take(length, field)?;
        // Never beyond what `take` found in the file.
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(|error| self.refuse(field, &error.to_string()))?;
        String::from_utf8(bytes)
            .map_err(|error| self.refuse(field, &format!("it is not UTF-8: {}", error.utf8_error())))
    }

    /// A key or a tensor's name; `field` is what it belongs to.
    fn name(&mut self, field: &str) -> Result<String> {
        let name = self.text(field)?;
        if name.len() as u64 > LONGEST_NAME || name.is_empty() {
            return Err(self.refuse(field, &format!("a name has {} bytes, not 1 to {LONGEST_NAME}", name.len())));
        }
        Ok(name)
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32(key)?;
        if kind != 9 {
            return self.single(kind, key);
        }
        let kind = self.u32(key)?;
        let length = self.u64(key)?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            // A text takes its length at least.
            8 | 10..=12 => 8,
            9 => return Err(self.refuse(key, "arrays of arrays are not supported")),
            other => return Err(self.refuse(key, &format!("{other} is no type of a value"))),
        };
        let Some(bytes) = length.checked_mul(size).filter(|bytes| *bytes <= self.end - self.at) else {
            let problem = format!("it claims {length} elements where {} bytes are left", self.end - self.at);
            return Err(self.refuse(key, &problem));
        };
        match kind {
            8 => (0..length).map(|_| self.text(key)).collect::<Result<_>>().map(Value::Texts),
            4 => (0..length).map(|_| self.u32(key).map(i64::from)).collect::<Result<_>>().map(Value::Integers),
            5 => {
                let one = |_| self.bytes(key).map(i32::from_le_bytes).map(i64::from);
                (0..length).map(one).collect::<Result<_>>().map(Value::Integers)
            }
            _ => {
                self.take(bytes, key)?;
                // The header is bounded, and so is this.
                self.file.seek_relative(bytes as i64).map_err(|error| self.refuse(key, &error.to_string()))?;
                Ok(Value::Others)
            }
        }
    }

    fn single(&mut self, kind: u32, key: &str) -> Result<Value> {
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.bytes(key)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.bytes(key)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.bytes(key)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.bytes(key)?).into()),
            4 => Value::Integer(self.u32(key)?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.bytes(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes(key)?).into()),
            7 => match self.bytes::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(self.refuse(key, &format!("{other} is neither true nor false"))),
            },
            8 => Value::Text(self.text(key)?),
            10 => Value::Integer(self.u64(key)?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.bytes(key)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes(key)?)),
            other => return Err(self.refuse(key, &format!("{other} is no type of a value"))),
        })
    }

    /// A tensor's name and place; it begins at a byte of the data.
    fn tensor(&mut self, alignment: u64) -> Result<(String, Info)> {
        let tensor = self.name("tensors")?;
        let refuse = |problem: String| refuse_tensor(self.name, &tensor, &problem);
        let field = "tensors";
        let dimensions = self.u32(field)?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(refuse(format!("it has {dimensions} dimensions, not 1 to {MOST_DIMENSIONS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(field)?);
        }
        let number = self.u32(field)?;
        let start = self.u64(field)?;
        let Some(kind) = TensorType::of(number) else {
            let named = TYPE_NAMES.get(number as usize).filter(|name| !name.is_empty());
            let named = named.map_or_else(|| format!("number {number}"), |name| (*name).to_owned());
            return Err(refuse(format!("its type is {named}; F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are understood")));
        };
        let (block, size) = kind.block();
        let row = shape.first().copied().unwrap_or_default();
        if !row.is_multiple_of(block as u64) {
            return Err(refuse(format!("its rows of {row} are no whole number of blocks of {block}")));
        }
        let elements = shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length));
        let bytes = elements.and_then(|elements| (elements / block as u64).checked_mul(size as u64));
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        let lengths = shape.iter().rev().map(|length| usize::try_from(*length).ok()).collect::<Option<Vec<_>>>();
        let (Some(bytes), Some(lengths)) = (bytes, lengths) else {
            return Err(refuse(format!("its shape {shape:?} holds nothing, or more than any machine")));
        };
        if !start.is_multiple_of(alignment) {
            return Err(refuse(format!("it begins at byte {start} of the data, no multiple of {alignment}")));
        }
        Ok((tensor, Info { shape: lengths, kind, start, bytes }))
    }
}
