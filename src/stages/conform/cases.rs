//! Files of cases, recorded from the SDKs or to be tried: `{"cases": [...]}`, each a row of weights as one call of an SDK is given it.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use super::legacy::Floats;
use super::{Environment, SdkError, Sent, Subnet, current, legacy, numpy, python};
use crate::{Error, Result};

/// The most uids that a case may name: far more than a subnet has.
const MOST: usize = 1 << 20;

/// A file of cases; whatever else it holds is passed over.
#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

/// A row of weights as one call is given it. Unknown fields are passed over.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// The case's name.
    pub id: String,
    api: Api,
    weights_form: Form,
    #[serde(deserialize_with = "uids")]
    uids: Vec<i64>,
    #[serde(deserialize_with = "floats")]
    weights: Vec<f64>,
    #[serde(deserialize_with = "count")]
    n: usize,
    min_allowed_weights: usize,
    max_weight_limit_u16: Option<u16>,
    #[serde(default, deserialize_with = "float")]
    max_weight_limit: Option<f64>,
    exclude_quantile: Option<u32>,
    self_uid: Option<i64>,
    netuid: Option<u16>,
    expect: Option<Expected>,
    expect_python_3_12: Option<Expected>,
    expect_numpy_2_0_2: Option<Expected>,
}

/// A call of an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Api {
    /// SDKs 9 and 10: `process_weights`, and then what `set_weights` makes of its result.
    Process,
    /// SDKs 9 and 10: `set_weights`.
    Emit,
    /// SDK 11: `SetWeights`.
    Conform,
    /// SDK 11: `SetWeights` with `raw_u16`.
    RawU16,
}

/// What weights are given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// An array of f32.
    F32,
    /// An array of f64.
    F64,
    /// A list.
    List,
    /// A mapping from uid to weight.
    Mapping,
}

/// What came out where the case was recorded.
#[derive(Clone, Debug, Deserialize)]
struct Expected {
    #[serde(default, deserialize_with = "some_uids")]
    uids: Option<Vec<i64>>,
    values: Option<Vec<u16>>,
    error: Option<String>,
    exception: Option<String>,
    message: Option<String>,
    /// What `process_weights` returned on the way, if it did.
    mid: Option<Mid>,
}

/// A vector of floats, by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Mid {
    dtype: String,
    len: usize,
    /// The first 16 hexadecimal digits of the SHA-256 of its little-endian bytes.
    sha256: String,
}

impl Mid {
    fn of(weights: &Floats) -> Self {
        let (dtype, bytes) = match weights {
            Floats::F32(weights) => ("float32", weights.iter().flat_map(|weight| weight.to_le_bytes()).collect()),
            Floats::F64(weights) => {
                ("float64", weights.iter().flat_map(|weight| weight.to_le_bytes()).collect::<Vec<u8>>())
            }
        };
        let sha256 = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { dtype: dtype.to_owned(), len: weights.len(), sha256 }
    }
}

impl Expected {
    /// Whether this is what came out. An error's class and message count where they were recorded.
    fn is(&self, outcome: &Result<Sent, SdkError>) -> bool {
        let said = |recorded: &Option<String>, text: &str| recorded.as_ref().is_none_or(|recorded| recorded == text);
        match outcome {
            Ok(sent) => {
                self.error.is_none()
                    && self.uids.as_ref() == Some(&sent.uids)
                    && self.values.as_ref() == Some(&sent.values)
            }
            Err(error) => {
                self.error.as_deref() == Some(error.name())
                    && said(&self.exception, error.exception())
                    && said(&self.message, &error.to_string())
            }
        }
    }
}

impl Case {
    /// Reads a file's text.
    ///
    /// # Errors
    /// [`Error::File`] where it is no such file.
    pub fn parse(text: &str, file: &str) -> Result<Vec<Self>> {
        let refuse = |field: &str, problem: String| {
            Error::File {
            file: file.to_owned(),
            field: field.to_owned(),
            problem,
            remedy: "write {\"cases\": [{\"id\", \"api\", \"n\", \"min_allowed_weights\", \"max_weight_limit_u16\", \"weights_form\", \"uids\", \"weights\"}, ...]}".to_owned(),
        }
        };
        let File { cases } = serde_json::from_str(text).map_err(|error| refuse("cases", error.to_string()))?;
        if let Some(case) = cases.iter().find(|case| case.limit().is_none()) {
            let problem = format!("neither max_weight_limit_u16 nor max_weight_limit in case {}", case.id);
            return Err(refuse("max_weight_limit_u16", problem));
        }
        Ok(cases)
    }

    fn limit(&self) -> Option<f64> {
        self.max_weight_limit_u16.map(|limit| f64::from(limit) / 65_535.0).or(self.max_weight_limit)
    }

    /// The subnet that the call is about.
    fn subnet(&self) -> Subnet {
        Subnet {
            // The recordings' own.
            netuid: self.netuid.unwrap_or(1),
            n: self.n,
            min_allowed_weights: self.min_allowed_weights,
            max_weight_limit: self.limit().unwrap_or(1.0),
            exclude_quantile: self.exclude_quantile.unwrap_or(0),
            own_uid: self.self_uid,
        }
    }

    /// What `process_weights` returns.
    ///
    /// # Errors
    /// What it raises.
    fn process(&self, version: numpy::Version) -> Result<legacy::Processed, SdkError> {
        match self.weights_form {
            Form::F32 | Form::F64 => legacy::process(&self.uids, &self.weights, &self.subnet(), version),
            Form::List => Err(SdkError::NoArray("list")),
            Form::Mapping => Err(SdkError::NoArray("dict")),
        }
    }

    /// What the call comes to.
    ///
    /// # Errors
    /// What the SDK raises.
    pub fn run(&self, environment: Environment) -> Result<Sent, SdkError> {
        let Environment { python, numpy } = environment;
        let weights = match (self.api, self.weights_form) {
            (_, Form::F32) | (Api::Emit, Form::List) => legacy::through_f32(&self.weights),
            _ => self.weights.clone(),
        };
        let (uids, weights) = match self.weights_form {
            Form::Mapping => current::from_mapping(&self.uids, &weights),
            _ => (self.uids.clone(), weights),
        };
        match self.api {
            Api::Process => {
                let processed = self.process(numpy)?;
                legacy::emit(&processed.uids, &processed.weights.to_f64(), python)
            }
            Api::Emit => legacy::emit(&uids, &weights, python),
            Api::Conform => current::conform(&uids, &weights, &self.subnet(), python),
            Api::RawU16 => current::raw_u16(&uids, &weights, &self.subnet()),
        }
    }

    /// Whether `outcome` is what came out where the case was recorded, in this environment, down to the bits of the floats on the way;
    /// `None` if the file does not say.
    pub fn agrees(&self, outcome: &Result<Sent, SdkError>, environment: Environment) -> Option<bool> {
        let expected = self.expected(environment)?;
        let mid = expected.mid.as_ref().is_none_or(|mid| match self.process(environment.numpy) {
            // NaN has no bits of its own.
            Ok(processed) => {
                processed.weights.to_f64().iter().any(|weight| weight.is_nan()) || Mid::of(&processed.weights) == *mid
            }
            Err(_) => false,
        });
        Some(mid && expected.is(outcome))
    }

    fn expected(&self, environment: Environment) -> Option<&Expected> {
        let python = self.expect_python_3_12.as_ref().filter(|_| environment.python == python::Version::Py312);
        let numpy = self.expect_numpy_2_0_2.as_ref().filter(|_| environment.numpy == numpy::Version::V2_0);
        python.or(numpy).or(self.expect.as_ref())
    }
}

/// Uids, one by one or as `{"range": k}`, which are 0 to k - 1.
#[derive(Deserialize)]
#[serde(untagged)]
enum Uids {
    List(Vec<i64>),
    Range { range: usize },
}

fn uids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    match Uids::deserialize(deserializer).map_err(|_| D::Error::custom("uids are a list or {\"range\": k}"))? {
        Uids::List(uids) => Ok(uids),
        Uids::Range { range } => Ok((0..at_most(range)? as i64).collect()),
    }
}

fn some_uids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<i64>>, D::Error> {
    uids(deserializer).map(Some)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    at_most(usize::deserialize(deserializer)?)
}

fn at_most<E: serde::de::Error>(count: usize) -> Result<usize, E> {
    if count <= MOST { Ok(count) } else { Err(E::custom(format!("{count} is more than {MOST}"))) }
}

/// A float as JSON has it or, with all that JSON lacks, as Python's `repr` in a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Float {
    Number(f64),
    Text(String),
}

impl Float {
    fn value<E: serde::de::Error>(self) -> Result<f64, E> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Text(text) => text.parse().map_err(|_| E::invalid_value(Unexpected::Str(&text), &"a float")),
        }
    }
}

fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Option::<Float>::deserialize(deserializer)?.map(Float::value).transpose()
}

fn floats<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    Vec::<Float>::deserialize(deserializer)?.into_iter().map(Float::value).collect()
}
