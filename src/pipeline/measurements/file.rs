//! Measurements as a safetensors file, which numpy and PyTorch read too.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::super::judge::Judged;
use super::super::texts::{Count, is_unit};
use super::{Digest, Models, Verdict};
use crate::nn::weights::Weights;
use crate::nn::{Embeddings, Precision, Rows};
use crate::{Error, Result, whole};

/// The key of the header's metadata.
const HEADER: &str = "tauscore.measurements";

/// What a file says of itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: String,
    encoder: String,
    precision: Precision,
    max_tokens: usize,
    width: usize,
    texts: usize,
    judge: Option<String>,
    cases: usize,
    losses: usize,
    /// By the place of the case: why it cannot be judged.
    problems: BTreeMap<usize, String>,
    device: String,
}

impl Header {
    /// What must be the same here and there, by field; the language model apart, which either side may lack.
    fn identity(&self) -> [(&'static str, String); 5] {
        [
            ("version", self.version.clone()),
            ("encoder", self.encoder.clone()),
            ("precision", self.precision.to_string()),
            ("max_tokens", self.max_tokens.to_string()),
            ("width", self.width.to_string()),
        ]
    }
}

impl Models<'_> {
    /// Adds what a file of [`Models::save`] says.
    ///
    /// # Errors
    /// [`Error::File`] if it is of another model, precision or engine; [`Error::File`] or [`Error::Tensor`] naming what is wrong with a damaged
    /// one; [`Error::Io`] if it cannot be read.
    pub fn read(&mut self, path: &Path) -> Result<()> {
        let mut file = Weights::open(path)?;
        let header = self.header_of(path, &file)?;
        let rows = embeddings(&mut file, &header)?;
        let digests: Vec<Digest> = column(&mut file, "texts.digest", &[header.texts, 32], Dtype::U8)?;
        let tokens: Vec<u32> = column(&mut file, "texts.tokens", &[header.texts], Dtype::U32)?;
        let truncated: Vec<u8> = column(&mut file, "texts.truncated", &[header.texts], Dtype::U8)?;
        let counts = tokens.into_iter().zip(truncated).map(|(tokens, cut)| Count { tokens, truncated: cut != 0 });
        let cases = if header.judge.is_some() && self.judge.is_some() { cases(&mut file, header)? } else { Vec::new() };

        self.texts.add_unknown(digests.into_iter().zip(counts), Embeddings { width: self.embedder.width(), rows })?;
        cases.into_iter().for_each(|(digest, verdict)| self.cases.add(digest, verdict));
        Ok(())
    }

    /// The header of a file, if what it says was said by these models.
    fn header_of(&self, path: &Path, file: &Weights) -> Result<Header> {
        let refuse = |field: &str, problem: String, remedy: &str| Error::File {
            file: path.display().to_string(),
            field: field.into(),
            problem,
            remedy: remedy.into(),
        };
        let again = "give a file that `tauscore score --save-measured` wrote";
        let header = file.metadata(HEADER).ok_or_else(|| refuse(HEADER, "it is missing".into(), again))?;
        let header: Header = serde_json::from_str(header).map_err(|error| refuse(HEADER, error.to_string(), again))?;
        let own = self.header();
        for ((field, theirs), (_, ours)) in header.identity().into_iter().zip(own.identity()) {
            if theirs != ours {
                let problem = format!("it is {theirs} there, and {ours} here");
                let remedy = "measure anew, or score by the criteria and the engine that measured";
                return Err(refuse(field, problem, remedy));
            }
        }
        if let (Some(theirs), Some(ours)) = (&header.judge, &own.judge)
            && theirs != ours
        {
            let problem = format!("it is the language model {theirs}, and {ours} here");
            return Err(refuse("judge", problem, "measure anew, or score by the language model that measured"));
        }
        Ok(header)
    }

    /// What a file of what is known now says of itself.
    fn header(&self) -> Header {
        Header {
            version: env!("CARGO_PKG_VERSION").into(),
            encoder: self.embedder.digest().into(),
            precision: self.embedder.precision(),
            max_tokens: self.embedder.max_tokens(),
            width: self.embedder.width(),
            texts: self.texts.texts.len(),
            judge: self.judge.map(|judge| judge.digest().into()),
            cases: self.cases.known.len(),
            losses: 0,
            problems: BTreeMap::new(),
            device: self.embedder.device().name(),
        }
    }

    /// Writes all that is known, as a safetensors file: whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut header = self.header();
        let known = &self.texts.texts;
        let digests: Vec<u8> = known.iter().flat_map(|text| text.digest).collect();
        let tokens: Vec<u32> = known.iter().map(|text| text.count.tokens).collect();
        let truncated: Vec<u8> = known.iter().map(|text| text.count.truncated.into()).collect();

        let mut cases: Vec<(&Digest, &Verdict)> =
            self.cases.known.iter().map(|(digest, case)| (digest, &case.verdict)).collect();
        cases.sort_unstable_by_key(|(digest, _)| *digest);
        let nothing = Judged::default();
        let judged: Vec<&Judged> = cases.iter().map(|(_, verdict)| verdict.as_ref().unwrap_or(&nothing)).collect();
        let problems = cases.iter().enumerate();
        header.problems =
            problems.filter_map(|(case, (_, verdict))| Some((case, verdict.as_ref().err()?.clone()))).collect();
        let case_digests: Vec<u8> = cases.iter().flat_map(|(digest, _)| **digest).collect();
        let length = |losses: &Vec<f32>| losses.len() as u32;
        let of_judged: Vec<u32> = judged.iter().map(|judged| length(&judged.token_losses)).collect();
        let of_baseline: Vec<u32> = judged.iter().map(|judged| length(&judged.baseline)).collect();
        let losses: Vec<f32> =
            judged.iter().flat_map(|judged| judged.token_losses.iter().chain(&judged.baseline)).copied().collect();
        let surprises: Vec<f64> = judged.iter().map(|judged| judged.surprise.unwrap_or(f64::NAN)).collect();
        let explained: Vec<f64> = judged.iter().map(|judged| judged.explained.unwrap_or(f64::NAN)).collect();
        header.losses = losses.len();

        let (dtype, rows) = self.texts.rows();
        let tensors = [
            ("texts.digest", Dtype::U8, vec![known.len(), 32], digests.as_slice()),
            ("texts.embedding", dtype, vec![known.len(), header.width], rows),
            ("texts.tokens", Dtype::U32, vec![known.len()], bytemuck::cast_slice(&tokens)),
            ("texts.truncated", Dtype::U8, vec![known.len()], truncated.as_slice()),
            ("cases.digest", Dtype::U8, vec![cases.len(), 32], case_digests.as_slice()),
            ("cases.judged", Dtype::U32, vec![cases.len()], bytemuck::cast_slice(&of_judged)),
            ("cases.baseline", Dtype::U32, vec![cases.len()], bytemuck::cast_slice(&of_baseline)),
            ("cases.surprise", Dtype::F64, vec![cases.len()], bytemuck::cast_slice(&surprises)),
            ("cases.explained", Dtype::F64, vec![cases.len()], bytemuck::cast_slice(&explained)),
            ("cases.losses", Dtype::F32, vec![losses.len()], bytemuck::cast_slice(&losses)),
        ];
        let failed = |error: SafeTensorError| Error::io(path, std::io::Error::other(error));
        let views =
            tensors.into_iter().map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)));
        let views: Vec<_> = views.collect::<Result<_, _>>().map_err(failed)?;
        // A single key, since a map of several has no order.
        let metadata = serde_json::to_string(&header).map_err(|error| Error::io(path, error.into()))?;
        let metadata = HashMap::from([(HEADER.to_owned(), metadata)]);
        whole::write(path, &serialize(views, Some(metadata)).map_err(failed)?)
    }
}

/// A tensor of a file, of one type.
fn column<T: bytemuck::Pod>(file: &mut Weights, tensor: &str, shape: &[usize], dtype: Dtype) -> Result<Vec<T>> {
    let (found, bytes) = file.read_bytes(tensor, shape)?;
    if found == dtype {
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    } else {
        Err(file.refuse(tensor, format!("its type is {found:?}, not {dtype:?}")))
    }
}

/// The rows of a file.
fn embeddings(file: &mut Weights, header: &Header) -> Result<Rows> {
    let tensor = "texts.embedding";
    let shape = [header.texts, header.width];
    let rows = match header.precision {
        Precision::Exact => Rows::Exact(column(file, tensor, &shape, Dtype::I16)?),
        Precision::F32 => Rows::F32(column(file, tensor, &shape, Dtype::F32)?),
    };
    // What is longer would overflow sums of products.
    let unit = match &rows {
        Rows::Exact(rows) => rows.chunks_exact(header.width).all(is_unit),
        Rows::F32(rows) => rows.iter().all(|number| number.abs() < 1.001),
    };
    if unit { Ok(rows) } else { Err(file.refuse(tensor, "it holds rows that are not of unit length".into())) }
}

/// The cases of a file, and what came of each.
fn cases(file: &mut Weights, mut header: Header) -> Result<Vec<(Digest, Verdict)>> {
    let count = header.cases;
    let digests: Vec<Digest> = column(file, "cases.digest", &[count, 32], Dtype::U8)?;
    let judged: Vec<u32> = column(file, "cases.judged", &[count], Dtype::U32)?;
    let baseline: Vec<u32> = column(file, "cases.baseline", &[count], Dtype::U32)?;
    let surprises: Vec<f64> = column(file, "cases.surprise", &[count], Dtype::F64)?;
    let explained: Vec<f64> = column(file, "cases.explained", &[count], Dtype::F64)?;
    let losses: Vec<f32> = column(file, "cases.losses", &[header.losses], Dtype::F32)?;
    let lengths = judged.iter().chain(&baseline).map(|length| *length as usize);
    if lengths.sum::<usize>() != losses.len() || losses.iter().any(|loss| !loss.is_finite()) {
        return Err(file.refuse("cases.losses", "they are not those of the cases".into()));
    }
    let mut rest = losses.into_iter();
    let mut take = |length: u32| rest.by_ref().take(length as usize).collect();
    let verdicts = (0..count).map(|case| {
        let [surprise, explained] =
            [surprises[case], explained[case]].map(|nats| Some(nats).filter(|nats| nats.is_finite()));
        let judged = Judged { token_losses: take(judged[case]), baseline: take(baseline[case]), surprise, explained };
        (digests[case], header.problems.remove(&case).map_or(Ok(judged), Err))
    });
    Ok(verdicts.collect())
}
