//! Tensors out of a safetensors file, one at a time, so that a model needs memory for one copy of itself.
//!
//! The file is not trusted: its header must parse, its tensors must fill the file exactly, and each tensor must have the
//! shape that the config calls for.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata};

use crate::{Error, Result};

/// Headers beyond this are refused before memory is taken for them. The largest published ones hold a few MB.
const LARGEST_HEADER: u64 = 100 << 20;

/// The header of a safetensors file, of at most `largest` bytes, and where the data begins; else what is wrong with it: one that does
/// not parse, or whose tensors do not fill the file.
pub(crate) fn header(file: &mut File, largest: u64) -> std::io::Result<Result<(Metadata, u64), String>> {
    let length = file.metadata()?.len();
    let mut size = [0; 8];
    if length < 8 {
        return Ok(Err(format!("the file has {length} bytes, fewer than the 8 of a header's size")));
    }
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > largest || size > length - 8 {
        return Ok(Err(format!("it claims {size} bytes, and the file has {length} in all")));
    }
    let mut header = Vec::new();
    file.by_ref().take(size).read_to_end(&mut header)?;
    // Checks that the tensors follow each other without gap or overlap and have the sizes that their shapes call for.
    let metadata: Metadata = match serde_json::from_slice(&header) {
        Ok(metadata) => metadata,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let data = 8 + size;
    let end = data.saturating_add(metadata.data_len() as u64);
    if end != length {
        return Ok(Err(format!("its tensors end at byte {end}, and the file at byte {length}")));
    }
    Ok(Ok((metadata, data)))
}

/// An open safetensors file.
pub(crate) struct Weights {
    name: String,
    file: File,
    /// Where the data begins.
    data: u64,
    metadata: Metadata,
    /// What stands before every tensor's name, such as `bert.`.
    prefix: String,
}

impl Weights {
    /// Opens the file and checks its header against its length.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let refuse = |problem: String| Error::File {
            file: name.clone(),
            field: "header".into(),
            problem,
            remedy: "the file is damaged or no safetensors file: fetch it again, or name another folder".into(),
        };
        let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
        let (metadata, data) =
            header(&mut file, LARGEST_HEADER).map_err(|error| Error::io(path, error))?.map_err(refuse)?;
        Ok(Self { name, file, data, metadata, prefix: String::new() })
    }

    /// Looks for `tensor` under each of `prefixes` and keeps the first that has it for all that follows.
    pub(crate) fn choose_prefix(&mut self, prefixes: &[&str], tensor: &str) {
        if let Some(prefix) = prefixes.iter().find(|prefix| self.metadata.info(&format!("{prefix}{tensor}")).is_some())
        {
            self.prefix = (*prefix).to_owned();
        }
    }

    /// What the header says under `key`, beside its tensors.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The error for a tensor that cannot be taken.
    pub(crate) fn refuse(&self, tensor: &str, problem: String) -> Error {
        Error::Tensor { file: self.name.clone(), tensor: tensor.into(), problem }
    }

    /// Reads `tensor`, which must have `shape`, as it lies in the file.
    pub(crate) fn read_bytes(&mut self, tensor: &str, shape: &[usize]) -> Result<(Dtype, Vec<u8>)> {
        let info = self.metadata.info(tensor).ok_or_else(|| self.refuse(tensor, "it is missing".into()))?;
        if info.shape != shape {
            return Err(self.refuse(tensor, format!("its shape is {:?}, the config calls for {shape:?}", info.shape)));
        }
        let (start, end) = info.data_offsets;
        let dtype = info.dtype;
        let mut bytes = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| self.refuse(tensor, error.to_string()))?;
        Ok((dtype, bytes))
    }

    /// Reads `tensor`, which must have `shape`, as f32.
    pub(crate) fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = format!("{}{tensor}", self.prefix);
        let (dtype, bytes) = self.read_bytes(&tensor, shape)?;
        let values: Vec<f32> = match dtype {
            Dtype::F32 => bytemuck::pod_collect_to_vec(&bytes),
            Dtype::F16 => bytemuck::pod_collect_to_vec::<_, half::f16>(&bytes).to_f32_vec(),
            Dtype::BF16 => bytemuck::pod_collect_to_vec::<_, half::bf16>(&bytes).to_f32_vec(),
            other => {
                return Err(self.refuse(&tensor, format!("its type is {other:?}; f32, f16 and bf16 are understood")));
            }
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(self.refuse(&tensor, format!("element {at} is {}", values[at])));
        }
        Ok(values)
    }

    /// Reads a linear layer's `[outputs][inputs]` matrix as `[inputs][outputs]`, into columns `[at, at + outputs)` of
    /// `into`, whose rows are `pitch` long. `into` takes its size once the tensor is there: a config's sizes alone cost no
    /// memory.
    pub(crate) fn read_transposed(
        &mut self,
        tensor: &str,
        [outputs, inputs]: [usize; 2],
        into: &mut Vec<f32>,
        pitch: usize,
        at: usize,
    ) -> Result<()> {
        let values = self.read(tensor, &[outputs, inputs])?;
        into.resize(inputs * pitch, 0.0);
        for (output, row) in values.chunks_exact(inputs).enumerate() {
            for (input, value) in row.iter().enumerate() {
                into[input * pitch + at + output] = *value;
            }
        }
        Ok(())
    }
}
