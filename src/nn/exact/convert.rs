//! A float checkpoint to the integer model, once and in the same way everywhere.
//!
//! Tensors are widened to f64. From there on only addition, multiplication, division, floor and ceil are used, each rounded once
//! and never fused, and powers of two, which are exact: every machine gets the same integers. The two constants depend on the
//! model's sizes and are made of IEEE square roots, which are correctly rounded.

use std::path::Path;

use super::model::{
    IntegerLayer, IntegerLinear, IntegerModel, IntegerNorm, LARGEST_SHIFT, LARGEST_STEP, Sizes, TABLE_BITS, gelu_table,
};
use crate::nn::config::{CONFIG, ModelConfig, POOLING};
use crate::nn::math::Activation;
use crate::nn::pool::Pooling;
use crate::nn::weights::Weights;
use crate::{Error, Result};

/// Epsilons up to this are left out: they are far below the variance of a row. MiniLM's is 1e-12.
const LARGEST_EPSILON: f64 = 1e-9;

/// The largest magnitude of a weight.
const LARGEST_WEIGHT: f64 = 127.0;

impl IntegerModel {
    /// Converts the checkpoint in `folder` (`config.json`, `model.safetensors` and, where present, `1_Pooling/config.json`): an
    /// encoder of the BERT family with GELU, mean pooling and heads of 32 to 128. The result of all-MiniLM-L6-v2 has the
    /// digest `8834ceaa3b0b3f723ffed6fb37cf2743fd1086a2cff75cd8a022c0d94315f365`.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Tensor`] naming the file and the field or tensor that does not fit, or the matrix whose
    /// sums are not proven to stay in their range (see [`IntegerModel::ranges`]).
    pub fn convert(folder: &Path) -> Result<Self> {
        let config = ModelConfig::read(folder)?;
        let sizes = sizes(&config)?;
        let path = folder.join("model.safetensors");
        let mut weights = Weights::open(&path)?;
        weights.choose_prefix(&["", "bert."], "embeddings.word_embeddings.weight");
        let mut source = Source { file: path.display().to_string(), weights, hidden: sizes.hidden };
        // A query times this times a key is the logit to base 2.
        let query_factor = std::f64::consts::LOG2_E / ((sizes.hidden / sizes.heads) as f64).sqrt();

        let (word, position) = source.tables(sizes, config.token_types)?;
        let embedding_norm = source.norm("embeddings.LayerNorm")?;
        let (hidden, wide) = (sizes.hidden, sizes.intermediate);
        let mut layer = |index: usize| -> Result<IntegerLayer> {
            let at = |name: &str| format!("encoder.layer.{index}.{name}");
            Ok(IntegerLayer {
                query: source.linear(&at("attention.self.query"), [hidden, hidden], query_factor)?,
                key: source.linear(&at("attention.self.key"), [hidden, hidden], 1.0)?,
                value: source.linear(&at("attention.self.value"), [hidden, hidden], 1.0)?,
                attention_output: source.linear(&at("attention.output.dense"), [hidden, hidden], 1.0)?,
                intermediate: source.linear(&at("intermediate.dense"), [wide, hidden], 1.0)?,
                output: source.linear(&at("output.dense"), [hidden, wide], 1.0)?,
                attention_norm: source.norm(&at("attention.output.LayerNorm"))?,
                output_norm: source.norm(&at("output.LayerNorm"))?,
            })
        };
        let layers = (0..sizes.layers).map(&mut layer).collect::<Result<_>>()?;
        let gelu = gelu_table();
        let model = Self { hidden, heads: sizes.heads, word, position, embedding_norm, layers, gelu };
        model.ranges().map_err(|bound| bound.refuse(&source.file))?;
        Ok(model)
    }
}

/// Rounds to the nearest integer, halves up. Adding a half rounds once more for numbers of 53 bits, which none here has.
fn nearest(x: f64) -> f64 {
    (x + 0.5).floor()
}

/// 2^`exponent`, exactly, for exponents from -1022 to 1023.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The checkpoint.
struct Source {
    file: String,
    weights: Weights,
    hidden: usize,
}

impl Source {
    fn refuse(&self, tensor: &str, problem: String) -> Error {
        Error::File {
            file: self.file.clone(),
            field: tensor.to_owned(),
            problem,
            remedy: "its weights are too large for the integer encoder: use the model in f32".into(),
        }
    }

    fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<impl Iterator<Item = f64> + use<>> {
        Ok(self.weights.read(tensor, shape)?.into_iter().map(f64::from))
    }

    /// `values` in units of 2^-`fraction`.
    fn fixed(&self, tensor: &str, values: impl Iterator<Item = f64>, fraction: i32) -> Result<Vec<i32>> {
        let scale = power(fraction);
        let fixed = values.enumerate().map(|(at, value)| {
            let scaled = nearest(value * scale);
            // -2^31 has no opposite, so the range is symmetrical.
            if scaled.abs() <= f64::from(i32::MAX) {
                Ok(scaled as i32)
            } else {
                Err(self.refuse(tensor, format!("element {at} is {value}, beyond 32 bits with {fraction} of fraction")))
            }
        });
        fixed.collect()
    }

    /// Word rows, and position rows with the row of token type 0 added. Both have 14 fraction bits, or as many as all of them
    /// leave room for: the norm that follows drops the scale.
    fn tables(&mut self, sizes: Sizes, types: usize) -> Result<(Vec<i16>, Vec<i16>)> {
        let names = ["word", "position", "token_type"].map(|name| format!("embeddings.{name}_embeddings.weight"));
        let word: Vec<f64> = self.read(&names[0], &[sizes.vocabulary, sizes.hidden])?.collect();
        let position: Vec<f64> = self.read(&names[1], &[sizes.positions, sizes.hidden])?.collect();
        let first: Vec<f64> = self.read(&names[2], &[types, sizes.hidden])?.take(sizes.hidden).collect();
        let position: Vec<f64> =
            position.iter().zip(first.iter().cycle()).map(|(position, first)| position + first).collect();
        let narrow = |fraction: i32| -> Option<[Vec<i16>; 2]> {
            let scale = power(fraction);
            let narrow = |value: &f64| {
                let scaled = nearest(value * scale);
                (f64::from(i16::MIN)..=f64::from(i16::MAX)).contains(&scaled).then_some(scaled as i16)
            };
            Some([word.iter().map(narrow).collect::<Option<_>>()?, position.iter().map(narrow).collect::<Option<_>>()?])
        };
        let Some([word, position]) = (0..=TABLE_BITS as i32).rev().find_map(narrow) else {
            return Err(self.refuse(&names[0], "it or the positions' table has an element beyond 16 bits".into()));
        };
        Ok((word, position))
    }

    fn norm(&mut self, name: &str) -> Result<IntegerNorm> {
        let (gain, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let root = (self.hidden as f64).sqrt();
        let gains = self.read(&gain, &[self.hidden])?;
        let biases = self.read(&bias, &[self.hidden])?;
        Ok(IntegerNorm {
            gain: self.fixed(&gain, gains.map(|gain| gain * root), 16)?,
            bias: self.fixed(&bias, biases, 15)?,
        })
    }

    /// A matrix and its bias, both times `factor`.
    fn linear(&mut self, name: &str, [outputs, inputs]: [usize; 2], factor: f64) -> Result<IntegerLinear> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let scaled = |value: f64| if factor == 1.0 { value } else { value * factor };
        let matrix: Vec<f64> = self.read(&weight, &[outputs, inputs])?.map(scaled).collect();
        let biases = self.read(&bias, &[outputs])?.map(scaled);
        let bias = self.fixed(&bias, biases, 15)?;

        let peaks: Vec<f64> =
            matrix.chunks(inputs).map(|row| row.iter().fold(0.0_f64, |peak, value| peak.max(value.abs()))).collect();
        let step = |peak: f64, shift: u32| (peak * power(shift as i32) / LARGEST_WEIGHT).ceil();
        let largest = peaks.iter().copied().fold(0.0, f64::max);
        let fits = |shift: &u32| step(largest, *shift) <= f64::from(LARGEST_STEP);
        let Some(shift) = (1..=LARGEST_SHIFT).rev().find(fits) else {
            return Err(
                self.refuse(&weight, format!("its largest element is {largest}, too large for 8 bits and a step"))
            );
        };

        let scale = power(shift as i32);
        let steps: Vec<f64> = peaks.iter().map(|peak| step(*peak, shift).max(1.0)).collect();
        let weights = matrix.chunks(inputs).zip(&steps).flat_map(|(row, step)| {
            row.iter().map(move |value| nearest(value * scale / step).clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT) as i8)
        });
        let weights = weights.collect();
        Ok(IntegerLinear {
            outputs,
            inputs,
            shift,
            steps: steps.iter().map(|step| *step as u32).collect(),
            bias,
            weights,
        })
    }
}

/// The sizes of a model that has a form in integers.
fn sizes(config: &ModelConfig) -> Result<Sizes> {
    let refuse = |file: &str, field: &str, problem: String| {
        let remedy = "the integer encoder takes BERT-family models with GELU and mean pooling: use this one in f32";
        Err(config.refuse(file, field, problem, remedy))
    };
    if config.activation != Activation::Gelu {
        return refuse(CONFIG, "hidden_act", "it is not gelu, the only one with a table of integers".into());
    }
    let epsilon = config.epsilon;
    if epsilon > LARGEST_EPSILON {
        let problem =
            format!("{epsilon:e} changes results, and integer norms have none; up to {LARGEST_EPSILON:e} is left out");
        return refuse(CONFIG, "layer_norm_eps", problem);
    }
    if config.pooling != Pooling::Mean {
        return refuse(POOLING, "pooling_mode", "it is not the mean".into());
    }
    let sizes = Sizes {
        vocabulary: config.vocabulary,
        positions: config.positions,
        hidden: config.hidden,
        heads: config.heads,
        intermediate: config.intermediate,
        layers: config.layers,
    };
    if let Err((field, problem)) = sizes.check() {
        let field = match field {
            "vocabulary" => "vocab_size",
            "positions" => "max_position_embeddings",
            "hidden" => "hidden_size",
            "heads" => "num_attention_heads",
            "intermediate" => "intermediate_size",
            _ => "num_hidden_layers",
        };
        return refuse(CONFIG, field, problem);
    }
    Ok(sizes)
}
