//! The integer model and its file.
//!
//! The file is little-endian and holds, one after the other: the header; the word table i16 `[vocabulary][hidden]`; the
//! position table i16 `[positions][hidden]`; the embeddings' norm (gain i32 `[hidden]`, bias i32 `[hidden]`); for each layer
//! its six matrices in the order of [`IntegerLayer::linears`] (i32 `[outputs, inputs, 8, shift, 14, 0]`, steps u32
//! `[outputs]`, bias i32 `[outputs]`, weights i8 `[outputs][inputs]`) and its two norms; the GELU table, i32 `[514]`.
//!
//! The header is i32 `[magic, 8, 15, 9]`: bits of the operands of query times key, fraction bits of the hidden rows, fraction
//! bits of the values under the softmax. Magic `XXQ1` says that the sizes are those of all-MiniLM-L6-v2, which that form of the
//! file does not write down. Any other sizes follow a header that begins with `XXQ2`, as i32 `[vocabulary, positions, hidden,
//! heads, intermediate, layers]`. So a file needs no config beside it, and its digest covers everything that the function
//! depends on. A model of MiniLM's sizes has the first form only, so that one model has one digest.
#![deny(clippy::float_arithmetic)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::arithmetic::GELU_ENTRIES;
use crate::progress::{Event, Listener};
use crate::{Error, Result, whole};

/// The integer model's name beside the checkpoint that it was made from.
pub const FILE: &str = "model.xq1";

/// The digest of all-MiniLM-L6-v2's integer model.
pub const MINILM_DIGEST: &str = "8834ceaa3b0b3f723ffed6fb37cf2743fd1086a2cff75cd8a022c0d94315f365";

/// Fraction bits of the word and position tables, at most.
pub const TABLE_BITS: u32 = 14;

/// The largest step of a row of weights (15 bits).
pub const LARGEST_STEP: u32 = 32_767;

/// The largest shift of a matrix. The conversion takes the largest that its steps allow; a matrix of zeros allows any.
pub const LARGEST_SHIFT: u32 = 36;

/// `XXQ1` and `XXQ2` as they stand in the file.
const MAGIC: [u32; 2] = [0x3151_5858, 0x3251_5858];

/// Bits of the operands of query times key, fraction bits of hidden rows, fraction bits of values.
const FORMATS: [(&str, u32); 3] = [("bits of query times key", 8), ("fraction bits", 15), ("value bits", 9)];

/// Bits of a matrix's weights and of the rows that it is multiplied with.
const WEIGHT_BITS: u32 = 8;
const INPUT_BITS: u32 = 14;

/// The sizes that `XXQ1` stands for.
const MINILM: Sizes =
    Sizes { vocabulary: 30_522, positions: 512, hidden: 384, heads: 12, intermediate: 1_536, layers: 6 };

/// 2^15 a (1 - Phi(a)) for a = 0, 1/64, ... 8, and a last 0; made by `datasets/scripts/make_gelu_table.py`.
static GELU_TABLE: &[u8; 4 * GELU_ENTRIES] = include_bytes!("../../../datasets/exact/gelu_table.bin");

/// An encoder of the BERT family in integers: GELU, mean pooling, no epsilon in its norms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegerModel {
    /// Numbers in a hidden row, and in an embedding.
    pub hidden: usize,
    /// Attention heads; their size is `hidden / heads`.
    pub heads: usize,
    /// Word rows, `[vocabulary][hidden]`, 14 fraction bits. A model whose rows reach beyond -2 to 2 has fewer in both tables; the
    /// norm that follows drops the scale.
    pub word: Vec<i16>,
    /// Position rows with the row of token type 0 added, `[positions][hidden]`, with as many fraction bits.
    pub position: Vec<i16>,
    /// The norm of word row + position row.
    pub embedding_norm: IntegerNorm,
    /// The layers, the first one first.
    pub layers: Vec<IntegerLayer>,
    /// What GELU takes off max(u, 0), at distances of 1/64, 15 fraction bits: `[514]`, the last one 0.
    pub gelu: Vec<i32>,
}

/// A layer norm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegerNorm {
    /// The gain times the square root of the hidden size, 16 fraction bits: `[hidden]`.
    pub gain: Vec<i32>,
    /// The bias, 15 fraction bits: `[hidden]`.
    pub bias: Vec<i32>,
}

/// One layer of the encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegerLayer {
    /// Hidden rows to queries, times log2(e) / sqrt(head size): a query times a key is a logit to base 2.
    pub query: IntegerLinear,
    /// Hidden rows to keys.
    pub key: IntegerLinear,
    /// Hidden rows to values.
    pub value: IntegerLinear,
    /// Mixed values to what is added to the hidden rows.
    pub attention_output: IntegerLinear,
    /// Hidden rows to the wide rows under GELU.
    pub intermediate: IntegerLinear,
    /// Wide rows to what is added to the hidden rows.
    pub output: IntegerLinear,
    /// The norm after attention.
    pub attention_norm: IntegerNorm,
    /// The norm after the feed-forward part.
    pub output_norm: IntegerNorm,
}

/// A linear layer: a weight is `weights * steps * 2^-shift`, with one step for each output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegerLinear {
    /// Rows of the matrix.
    pub outputs: usize,
    /// Numbers in a row of the matrix.
    pub inputs: usize,
    /// Fraction bits of the steps, 1 to 36.
    pub shift: u32,
    /// The step of each row, 1 to 32,767: `[outputs]`.
    pub steps: Vec<u32>,
    /// The bias, 15 fraction bits: `[outputs]`.
    pub bias: Vec<i32>,
    /// The matrix, -127 to 127: `[outputs][inputs]`.
    pub weights: Vec<i8>,
}

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub vocabulary: usize,
    pub positions: usize,
    pub hidden: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub layers: usize,
}

impl Sizes {
    /// The names and values in the order of the file.
    fn fields(self) -> [(&'static str, usize); 6] {
        [
            ("vocabulary", self.vocabulary),
            ("positions", self.positions),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("intermediate", self.intermediate),
            ("layers", self.layers),
        ]
    }

    /// The field that does not fit the arithmetic, and why.
    ///
    /// A workgroup holds a hidden row below 1,024 numbers, a softmax adds up to 2^16 for each position, and the others are
    /// far above every published model and far below what overflows.
    pub(super) fn check(self) -> Result<(), (&'static str, String)> {
        let limits = [(1, 1 << 24), (2, 65_535), (1, 1_023), (1, 1_023), (1, 1 << 18), (1, 1 << 10)];
        for ((field, value), (least, largest)) in self.fields().into_iter().zip(limits) {
            if !(least..=largest).contains(&value) {
                return Err((field, format!("{value} is not between {least} and {largest}")));
            }
        }
        let head = self.hidden / self.heads;
        if head * self.heads != self.hidden || !(32..=128).contains(&head) {
            return Err(("heads", format!("{} heads do not divide {} into 32 to 128 each", self.heads, self.hidden)));
        }
        Ok(())
    }

    /// Outputs and inputs of each matrix of a layer.
    fn linears(self) -> [[usize; 2]; 6] {
        let (hidden, wide) = (self.hidden, self.intermediate);
        [[hidden, hidden], [hidden, hidden], [hidden, hidden], [hidden, hidden], [wide, hidden], [hidden, wide]]
    }

    /// The length of the file; for sizes that [`Sizes::check`] passes.
    fn bytes(self) -> u64 {
        let [vocabulary, positions, hidden, _, _, layers] = self.fields().map(|(_, value)| value as u64);
        let header = if self == MINILM { 4 } else { 10 };
        let norm = 8 * hidden;
        let linears: u64 = self.linears().iter().map(|&[n, k]| 24 + n as u64 * (8 + k as u64)).sum();
        4 * header
            + 2 * hidden * (vocabulary + positions)
            + norm
            + layers * (linears + 2 * norm)
            + 4 * GELU_ENTRIES as u64
    }
}

/// The GELU table that every model has.
pub(super) fn gelu_table() -> Vec<i32> {
    GELU_TABLE.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()
}

impl IntegerLayer {
    /// The matrices with their names, in the order of the file.
    pub fn linears(&self) -> [(&'static str, &IntegerLinear); 6] {
        [
            ("query", &self.query),
            ("key", &self.key),
            ("value", &self.value),
            ("attention_output", &self.attention_output),
            ("intermediate", &self.intermediate),
            ("output", &self.output),
        ]
    }
}

impl IntegerModel {
    /// Known token ids.
    pub fn vocabulary(&self) -> usize {
        self.word.len().checked_div(self.hidden).unwrap_or(0)
    }

    /// The most tokens of a sequence.
    pub fn positions(&self) -> usize {
        self.position.len().checked_div(self.hidden).unwrap_or(0)
    }

    /// Numbers in a row under GELU.
    pub fn intermediate(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.intermediate.outputs)
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            vocabulary: self.vocabulary(),
            positions: self.positions(),
            hidden: self.hidden,
            heads: self.heads,
            intermediate: self.intermediate(),
            layers: self.layers.len(),
        }
    }

    /// The integer model of the checkpoint in `folder`: [`FILE`] in there, or a fresh conversion where it is missing or older than the
    /// checkpoint. What is converted is kept there if the folder can be written to; that a conversion begins and ends is told.
    ///
    /// # Errors
    /// As [`IntegerModel::read`] and [`IntegerModel::convert`].
    pub fn of_folder(folder: &Path, listen: Listener<'_>) -> Result<Self> {
        let path = folder.join(FILE);
        let changed = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
        let checkpoint = changed(&folder.join("model.safetensors"));
        if changed(&path).is_some_and(|kept| checkpoint.is_none_or(|checkpoint| kept >= checkpoint)) {
            return Self::read(&path);
        }
        let began = Instant::now();
        listen(Event::Began { stage: "converting", total: 1, unit: "model" });
        let model = Self::convert(folder)?;
        listen(Event::Ended { stage: "converting", seconds: began.elapsed().as_secs_f64() });
        // It only saves the next one a second.
        let _ = model.write(&path);
        Ok(model)
    }

    /// Reads a file that nobody vouches for: whatever is accepted has sizes that fit each other, weights that the kernels may
    /// rely on, and sums that stay in their range.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::File`] naming the field that is wrong or the matrix whose sums are
    /// not proven to fit.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(path, error);
        let name = path.display().to_string();
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        // The header first: memory is taken for sizes that the file has, not for what it claims.
        let mut bytes = Vec::new();
        let mut file = file.take(40);
        file.read_to_end(&mut bytes).map_err(failed)?;
        Reader { name: &name, rest: &bytes }.sizes(length)?;
        file.set_limit(length.saturating_sub(bytes.len() as u64));
        file.read_to_end(&mut bytes).map_err(failed)?;
        Self::from_bytes(&bytes, &name)
    }

    /// As [`IntegerModel::read`], from memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`IntegerModel::read`].
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let mut reader = Reader { name, rest: bytes };
        let sizes = reader.sizes(bytes.len() as u64)?;
        let model = Self {
            hidden: sizes.hidden,
            heads: sizes.heads,
            word: reader.halves(sizes.vocabulary * sizes.hidden, "word")?,
            position: reader.halves(sizes.positions * sizes.hidden, "position")?,
            embedding_norm: reader.norm(sizes.hidden, "embedding_norm")?,
            layers: (0..sizes.layers).map(|index| reader.layer(sizes, index)).collect::<Result<_>>()?,
            gelu: reader.words(GELU_ENTRIES, "gelu")?.map(u32::cast_signed).collect(),
        };
        if model.gelu != gelu_table() {
            return Err(reader.refuse("gelu", "it is not the table of XQ1".into()));
        }
        if !reader.rest.is_empty() {
            return Err(reader.refuse("end", format!("{} bytes follow the model", reader.rest.len())));
        }
        model.ranges().map_err(|bound| bound.refuse(name))?;
        Ok(model)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        whole::write(path, &self.to_bytes())
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let sizes = self.sizes();
        let mut bytes = Vec::with_capacity(usize::try_from(sizes.bytes()).unwrap_or(0));
        let mut put = |word: u32| bytes.extend(word.to_le_bytes());
        put(MAGIC[usize::from(sizes != MINILM)]);
        FORMATS.iter().for_each(|(_, value)| put(*value));
        if sizes != MINILM {
            sizes.fields().iter().for_each(|(_, value)| put(*value as u32));
        }
        self.word.iter().chain(&self.position).for_each(|value| bytes.extend(value.to_le_bytes()));
        let put_norm = |bytes: &mut Vec<u8>, norm: &IntegerNorm| {
            norm.gain.iter().chain(&norm.bias).for_each(|value| bytes.extend(value.to_le_bytes()));
        };
        put_norm(&mut bytes, &self.embedding_norm);
        for layer in &self.layers {
            for (_, linear) in layer.linears() {
                let header = [linear.outputs as u32, linear.inputs as u32, WEIGHT_BITS, linear.shift, INPUT_BITS, 0];
                header.iter().chain(&linear.steps).for_each(|word| bytes.extend(word.to_le_bytes()));
                linear.bias.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
                bytes.extend_from_slice(bytemuck::cast_slice(&linear.weights));
            }
            put_norm(&mut bytes, &layer.attention_norm);
            put_norm(&mut bytes, &layer.output_norm);
        }
        self.gelu.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes
    }

    /// The SHA-256 of the file, in lower-case hexadecimal.
    pub fn digest(&self) -> String {
        digest(&self.to_bytes())
    }
}

/// The SHA-256 of `bytes`, in lower-case hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What is left of a file.
struct Reader<'a> {
    name: &'a str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn refuse(&self, field: &str, problem: String) -> Error {
        Error::File {
            file: self.name.to_owned(),
            field: field.to_owned(),
            problem,
            remedy: "the file is damaged or no integer model: make it again with `tauscore models convert`".into(),
        }
    }

    fn take(&mut self, bytes: usize, field: &str) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(self.refuse(field, format!("it ends {} bytes too early", bytes - self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn word(&mut self, field: &str) -> Result<u32> {
        Ok(self.words(1, field)?.next().unwrap_or(0))
    }

    fn words(&mut self, count: usize, field: &str) -> Result<impl Iterator<Item = u32> + use<'a>> {
        let bytes = self.take(4 * count, field)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)))
    }

    fn halves(&mut self, count: usize, field: &str) -> Result<Vec<i16>> {
        let bytes = self.take(2 * count, field)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect())
    }

    /// Reads the header, and compares what it claims with the `length` of the whole file.
    fn sizes(&mut self, length: u64) -> Result<Sizes> {
        let magic = self.word("header")?;
        if !MAGIC.contains(&magic) {
            return Err(self.refuse("header", format!("it begins with {magic:#010x}, not with XXQ1 or XXQ2")));
        }
        for (field, right) in FORMATS {
            let value = self.word("header")?;
            if value != right {
                return Err(self.refuse("header", format!("{field}: {value}, and {right} is what XQ1 has")));
            }
        }
        let sizes = if magic == MAGIC[0] {
            MINILM
        } else {
            let mut size = || self.word("header").map(|word| word as usize);
            let sizes = Sizes {
                vocabulary: size()?,
                positions: size()?,
                hidden: size()?,
                heads: size()?,
                intermediate: size()?,
                layers: size()?,
            };
            sizes.check().map_err(|(field, problem)| self.refuse(field, problem))?;
            if sizes == MINILM {
                return Err(self.refuse("header", "these sizes go without saying: it has to begin with XXQ1".into()));
            }
            sizes
        };
        if sizes.bytes() != length {
            let right = sizes.bytes();
            return Err(self.refuse("header", format!("its sizes call for {right} bytes, the file has {length}")));
        }
        Ok(sizes)
    }

    fn norm(&mut self, hidden: usize, field: &str) -> Result<IntegerNorm> {
        let gain: Vec<i32> = self.words(hidden, field)?.map(u32::cast_signed).collect();
        let bias = self.words(hidden, field)?.map(u32::cast_signed).collect();
        if gain.contains(&i32::MIN) {
            return Err(self.refuse(field, "a gain is -2^31, which has no opposite".into()));
        }
        Ok(IntegerNorm { gain, bias })
    }

    fn linear(&mut self, [outputs, inputs]: [usize; 2], field: &str) -> Result<IntegerLinear> {
        let mut header = [0; 6];
        for word in &mut header {
            *word = self.word(field)?;
        }
        let shift = header[3];
        if header != [outputs as u32, inputs as u32, WEIGHT_BITS, shift, INPUT_BITS, 0] {
            let right = format!("[{outputs}, {inputs}, {WEIGHT_BITS}, shift, {INPUT_BITS}, 0]");
            return Err(self.refuse(field, format!("its header is {header:?}, and {right} was due")));
        }
        if !(1..=LARGEST_SHIFT).contains(&shift) {
            return Err(self.refuse(field, format!("its shift {shift} is not between 1 and {LARGEST_SHIFT}")));
        }
        let steps: Vec<u32> = self.words(outputs, field)?.collect();
        if let Some(row) = steps.iter().position(|step| !(1..=LARGEST_STEP).contains(step)) {
            let step = steps[row];
            return Err(self.refuse(field, format!("the step {step} of row {row} is not between 1 and {LARGEST_STEP}")));
        }
        let bias = self.words(outputs, field)?.map(u32::cast_signed).collect();
        let weights = bytemuck::cast_slice::<u8, i8>(self.take(outputs * inputs, field)?).to_vec();
        if let Some(at) = weights.iter().position(|weight| *weight == i8::MIN) {
            let (row, column) = (at / inputs, at % inputs);
            return Err(
                self.refuse(field, format!("the weight in row {row}, column {column} is -128; -127 is the least"))
            );
        }
        Ok(IntegerLinear { outputs, inputs, shift, steps, bias, weights })
    }

    fn layer(&mut self, sizes: Sizes, index: usize) -> Result<IntegerLayer> {
        let at = |name: &str| format!("layer {index} {name}");
        let [query, key, value, attention_output, intermediate, output] = sizes.linears();
        Ok(IntegerLayer {
            query: self.linear(query, &at("query"))?,
            key: self.linear(key, &at("key"))?,
            value: self.linear(value, &at("value"))?,
            attention_output: self.linear(attention_output, &at("attention_output"))?,
            intermediate: self.linear(intermediate, &at("intermediate"))?,
            output: self.linear(output, &at("output"))?,
            attention_norm: self.norm(sizes.hidden, &at("attention_norm"))?,
            output_norm: self.norm(sizes.hidden, &at("output_norm"))?,
        })
    }
}
