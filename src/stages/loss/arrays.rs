//! Arrays that a miner sent, out of `.npy` and safetensors files, a row at a time.
//!
//! The files are not trusted. Whatever is wrong with one is a [`Fault`]; only where the disk fails is there an error. A file's length
//! must be what its header calls for, and the header's shape what the caller calls for, before memory is taken for a row.
#![deny(clippy::float_arithmetic)]

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use half::{bf16, f16};
use regex::Regex;
use safetensors::tensor::Dtype;

use crate::Error;
use crate::nn::weights::header;

/// A header beyond this is refused before memory is taken for it. Those of a few arrays take some hundred bytes.
const LARGEST_HEADER: u64 = 1 << 20;

const NPY: &[u8] = b"\x93NUMPY";

/// What is wrong with the arrays that a miner sent. His response is worth nothing, and nobody else's is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The row of the arrays, from 0, where it lies in one.
    pub row: Option<usize>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.row {
            Some(row) => write!(formatter, "row {row}: {}", self.what),
            None => formatter.write_str(&self.what),
        }
    }
}

/// Why arrays could not be read to their end.
pub(super) enum Trouble {
    Fault(Fault),
    Disk(Error),
}

impl Trouble {
    /// A fault of the file as a whole.
    pub(super) fn file(what: impl Into<String>) -> Self {
        Self::Fault(Fault { row: None, what: what.into() })
    }

    pub(super) fn row(row: usize, what: impl Into<String>) -> Self {
        Self::Fault(Fault { row: Some(row), what: what.into() })
    }
}

/// What a number is stored as, in little-endian order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    Bf16,
    I32,
    I64,
    U32,
}

impl Element {
    pub(super) const FLOATS: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];
    pub(super) const IDS: [Self; 3] = [Self::I32, Self::I64, Self::U32];

    fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I64 => 8,
        }
    }

    fn of_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::I32 => Some(Self::I32),
            Dtype::I64 => Some(Self::I64),
            Dtype::U32 => Some(Self::U32),
            _ => None,
        }
    }

    /// By numpy's name of it. NumPy has no bf16 of its own: that of ml_dtypes is written as two bytes of anything.
    fn of_npy(descr: &str) -> Option<Self> {
        match descr {
            "<f4" => Some(Self::F32),
            "<f2" => Some(Self::F16),
            "<V2" | "|V2" | "bfloat16" => Some(Self::Bf16),
            "<i4" => Some(Self::I32),
            "<i8" => Some(Self::I64),
            "<u4" => Some(Self::U32),
            _ => None,
        }
    }
}

/// What an array must be.
pub(super) struct Wanted<'a> {
    /// Its name in a safetensors file.
    pub(super) name: &'a str,
    /// Whether the only tensor of a safetensors file is meant whatever its name, and an `.npy` file will do.
    pub(super) alone: bool,
    pub(super) elements: &'a [Element],
    /// Rows it must have.
    pub(super) rows: usize,
    /// The fewest and the most columns.
    pub(super) columns: (usize, usize),
}

/// An array `[rows][columns]` in a file.
pub(super) struct Array {
    path: PathBuf,
    file: BufReader<File>,
    element: Element,
    pub(super) columns: usize,
    row: Vec<u8>,
}

/// A header's word on one array.
struct Found {
    element: Option<Element>,
    /// The file's own name of its elements.
    named: String,
    shape: Vec<usize>,
    /// Where its data begins.
    data: u64,
}

impl Array {
    /// Opens `path`, whose array must be as `wanted`.
    pub(super) fn open(path: &Path, wanted: &Wanted<'_>) -> Result<Self, Trouble> {
        let disk = |error| Trouble::Disk(Error::io(path, error));
        let mut file = File::open(path).map_err(disk)?;
        let mut magic = Vec::new();
        file.by_ref().take(NPY.len() as u64).read_to_end(&mut magic).map_err(disk)?;
        let found = if magic == NPY {
            if !wanted.alone {
                return Err(Trouble::file("is .npy, which holds one array: several need a safetensors file"));
            }
            let found = npy(&mut file).map_err(disk)?.map_err(Trouble::file)?;
            let length = file.metadata().map_err(disk)?.len();
            let end = found.bytes().and_then(|bytes| found.data.checked_add(bytes));
            if found.element.is_some() && end != Some(length) {
                let called_for = end.map_or("more bytes than there can be".to_owned(), |end| format!("{end} bytes"));
                return Err(Trouble::file(format!("has {length} bytes, and its header calls for {called_for}")));
            }
            found
        } else {
            file.rewind().map_err(disk)?;
            let (metadata, data) = header(&mut file, LARGEST_HEADER)
                .map_err(disk)?
                .map_err(|problem| Trouble::file(format!("is neither .npy nor safetensors: header: {problem}")))?;
            let tensors = metadata.tensors();
            let info = match tensors.get(wanted.name) {
                None if wanted.alone && tensors.len() == 1 => tensors.values().next(),
                info => info,
            };
            let info = info.ok_or_else(|| Trouble::file(format!("has no tensor {:?}", wanted.name)))?;
            Found {
                element: Element::of_safetensors(info.dtype),
                named: format!("{:?}", info.dtype),
                shape: info.shape.clone(),
                data: data + info.data_offsets.0 as u64,
            }
        };
        let (element, columns) = found.check(wanted)?;
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(found.data)).map_err(disk)?;
        Ok(Self { path: path.to_path_buf(), file, element, columns, row: vec![0; columns * element.size()] })
    }

    fn read(&mut self) -> Result<(), Trouble> {
        // The file was long enough when it was opened.
        self.file.read_exact(&mut self.row).map_err(|error| Trouble::Disk(Error::io(&self.path, error)))
    }

    /// Reads the next row of numbers into `into`; of an array of [`Element::FLOATS`].
    pub(super) fn floats(&mut self, into: &mut Vec<f32>) -> Result<(), Trouble> {
        self.read()?;
        into.clear();
        match self.element {
            Element::F16 => into.extend(words(&self.row).map(|bytes| f16::from_le_bytes(bytes).to_f32())),
            Element::Bf16 => into.extend(words(&self.row).map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            _ => into.extend(words(&self.row).map(f32::from_le_bytes)),
        }
        Ok(())
    }

    /// Reads the next row of ids into `into`; of an array of [`Element::IDS`].
    pub(super) fn ids(&mut self, into: &mut Vec<i64>) -> Result<(), Trouble> {
        self.read()?;
        into.clear();
        match self.element {
            Element::I64 => into.extend(words(&self.row).map(i64::from_le_bytes)),
            Element::U32 => into.extend(words(&self.row).map(|bytes| i64::from(u32::from_le_bytes(bytes)))),
            _ => into.extend(words(&self.row).map(|bytes| i64::from(i32::from_le_bytes(bytes)))),
        }
        Ok(())
    }
}

/// Bytes in groups of N.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

impl Found {
    /// How many bytes the array takes, if that is a number.
    fn bytes(&self) -> Option<u64> {
        let numbers = self.shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length))?;
        u64::try_from(numbers.checked_mul(self.element?.size())?).ok()
    }

    /// What its elements are, and how many columns it has.
    fn check(&self, wanted: &Wanted<'_>) -> Result<(Element, usize), Trouble> {
        let Some(element) = self.element.filter(|element| wanted.elements.contains(element)) else {
            let known: Vec<String> =
                wanted.elements.iter().map(|element| format!("{element:?}").to_lowercase()).collect();
            let known = known.join(", ");
            let what = format!("{} are {}; {known} are understood, in little-endian order", wanted.name, self.named);
            return Err(Trouble::file(what));
        };
        let (fewest, most) = wanted.columns;
        match self.shape[..] {
            [rows, columns] if rows == wanted.rows && (fewest..=most).contains(&columns) => Ok((element, columns)),
            _ => {
                let columns = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
                Err(Trouble::file(format!(
                    "{} have the shape {:?}, not [{}, {columns}]",
                    wanted.name, self.shape, wanted.rows
                )))
            }
        }
    }
}

/// Reads an `.npy` header, versions 1 to 3, from behind its magic bytes; else says what is wrong with it. The text is a Python
/// dictionary, as numpy writes it (numpy.lib.format): `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn npy(file: &mut File) -> std::io::Result<Result<Found, String>> {
    static DESCR: LazyLock<Regex> = LazyLock::new(|| super::known(r"'descr'\s*:\s*(?:'([^']*)'|[^\s,}]+)"));
    static FORTRAN: LazyLock<Regex> = LazyLock::new(|| super::known(r"'fortran_order'\s*:\s*(True|False)"));
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| super::known(r"'shape'\s*:\s*\(([0-9,\s]*)\)"));

    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start)?;
    let width = match start[..] {
        [1, 0] => 2,
        [2 | 3, 0] => 4,
        [major, minor] => {
            return Ok(Err(format!("is .npy of version {major}.{minor}; 1.0, 2.0 and 3.0 are understood")));
        }
        _ => return Ok(Err("is .npy cut off in its header".into())),
    };
    let mut size = Vec::new();
    file.by_ref().take(width).read_to_end(&mut size)?;
    if size.len() as u64 != width {
        return Ok(Err("is .npy cut off in its header".into()));
    }
    let size = size.iter().rev().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    if size > LARGEST_HEADER {
        return Ok(Err(format!("is .npy with a header of {size} bytes; {LARGEST_HEADER} are the most")));
    }
    let mut text = Vec::new();
    file.by_ref().take(size).read_to_end(&mut text)?;
    if text.len() as u64 != size {
        return Ok(Err("is .npy cut off in its header".into()));
    }
    let text = String::from_utf8_lossy(&text);
    let (Some(descr), Some(fortran), Some(shape)) =
        (DESCR.captures(&text), FORTRAN.captures(&text), SHAPE.captures(&text))
    else {
        return Ok(Err("is .npy whose header lacks a legal descr, fortran_order or shape".into()));
    };
    if &fortran[1] == "True" {
        return Ok(Err("is .npy in Fortran order; C order is understood (numpy.ascontiguousarray)".into()));
    }
    let lengths = shape[1].split(',').map(str::trim).filter(|length| !length.is_empty());
    let Ok(shape) = lengths.map(str::parse).collect::<Result<Vec<usize>, _>>() else {
        return Ok(Err(format!("is .npy of the shape ({}), which cannot be", shape[1].trim())));
    };
    let named = descr.get(1).map_or("of several fields", |named| named.as_str()).to_owned();
    Ok(Ok(Found { element: Element::of_npy(&named), named, shape, data: NPY.len() as u64 + 2 + width + size }))
}
