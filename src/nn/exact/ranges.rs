//! Proof that no value of the integer encoder leaves its 32 bits, whatever the token ids.
//!
//! A norm's output is bias + gain * u / 2 + rounding, where u (a unit vector up to rounding) has a length of at most
//! 1 + 2^-15 whatever went in. So a matrix that follows a norm makes of it, by Cauchy and Schwarz, at most the product with the
//! bias and the length of its row scaled by the gain. Behind attention and GELU, where that is lost, bounds go number by
//! number. Everything is computed in integers and rounded up.
//!
//! Sums may pass 32 bits on the way: addition modulo 2^32 gives the right sum in any order if the sum itself fits. What is
//! bounded here is therefore each value that is divided, shifted, compared or widened.
#![deny(clippy::float_arithmetic)]

use std::fmt;

use super::model::{IntegerLinear, IntegerModel, IntegerNorm, LARGEST_SHIFT, LARGEST_STEP};
use crate::Error;

/// How large a quantity can become, and how large it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What is bounded.
    pub quantity: &'static str,
    /// Where it comes nearest to its limit, such as `layer 3 output`.
    pub place: String,
    /// It never exceeds this, sign apart.
    pub bound: u128,
    /// It must not exceed this.
    pub limit: u64,
    /// Binary digits of its fraction: in units of the real number it is `bound / 2^fraction`.
    pub fraction: u32,
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quantity, bound, limit, .. } = self;
        write!(formatter, "{quantity} can reach {bound}, and {limit} is the most that the arithmetic takes")
    }
}

impl Bound {
    /// The refusal of the model in `file`, for a bound that does not hold.
    pub fn refuse(self, file: &str) -> Error {
        Error::File {
            file: file.to_owned(),
            field: self.place.clone(),
            problem: self.to_string(),
            remedy: "its weights are too large for the integer encoder: use the model in f32".into(),
        }
    }
}

/// What a signed 32-bit word holds.
const WORD: u64 = i32::MAX as u64;

/// Rounding a number to 16 bits adds up to 2^15.
const HEADROOM: u64 = WORD - (1 << 15);

/// The largest input of a matrix and of query times key.
const LARGEST_INPUT: u128 = 8_128;
const LARGEST_HEAD: u128 = 127;

/// (1 + 2^-15) / 2 over 2^16: half the length of a norm's unit vector. With m = S / 4^e rounded down and q its root rounded
/// down, the vector is at most sqrt(m + 1) / q <= (q + 1) / q long, and q >= 2^15.
const RHO: u128 = 32_769;

/// The numbers of a row, sign apart.
struct Signal<'a> {
    each: Vec<u128>,
    /// The norm that it comes from, if it comes from one.
    norm: Option<&'a IntegerNorm>,
}

impl Signal<'_> {
    fn largest(&self) -> u128 {
        self.each.iter().copied().max().unwrap_or(0)
    }

    /// The step of the row's quantiser to integers of at most `limit`.
    fn step(&self, limit: u128) -> u128 {
        step(self.largest(), limit)
    }
}

fn step(largest: u128, limit: u128) -> u128 {
    largest.div_ceil(limit).max(1)
}

/// The square root, rounded up.
fn root(square: u128) -> u128 {
    let root = square.isqrt();
    root + u128::from(root * root < square)
}

/// The length of gain * u / 2 in the direction whose squared length, scaled by the gain, is `square`.
fn reach(square: u128) -> u128 {
    (root(square) * RHO).div_ceil(1 << 16)
}

fn square(value: i64) -> u128 {
    let value = u128::from(value.unsigned_abs());
    value * value
}

/// The worst of each quantity so far.
#[derive(Default)]
struct Proof(Vec<Bound>);

impl Proof {
    /// Takes note of a bound, which must hold.
    fn note(
        &mut self,
        quantity: &'static str,
        place: &str,
        bound: u128,
        limit: u64,
        fraction: u32,
    ) -> Result<(), Bound> {
        let bound = Bound { quantity, place: place.to_owned(), bound, limit, fraction };
        if bound.bound > u128::from(limit) {
            return Err(bound);
        }
        match self.0.iter_mut().find(|known| known.quantity == quantity) {
            Some(known) if known.bound >= bound.bound => {}
            Some(known) => *known = bound,
            None => self.0.push(bound),
        }
        Ok(())
    }

    fn norm<'a>(&mut self, place: &str, norm: &'a IntegerNorm) -> Result<Signal<'a>, Bound> {
        let each = norm.gain.iter().zip(&norm.bias).map(|(gain, bias)| {
            u128::from(bias.unsigned_abs()) + (u128::from(gain.unsigned_abs()) * RHO).div_ceil(1 << 16) + 1
        });
        let signal = Signal { each: each.collect(), norm: Some(norm) };
        self.note("hidden row", place, signal.largest(), WORD, 15)?;
        Ok(signal)
    }

    /// A matrix with the quantiser before it.
    fn linear(
        &mut self,
        quantity: &'static str,
        place: &str,
        linear: &IntegerLinear,
        input: &Signal<'_>,
    ) -> Result<Signal<'static>, Bound> {
        let step = input.step(LARGEST_INPUT);
        let largest = linear.steps.iter().copied().max().unwrap_or(0);
        self.note("shift of a matrix", place, linear.shift.into(), LARGEST_SHIFT.into(), 0)?;
        self.note("step of a matrix", place, largest.into(), LARGEST_STEP.into(), 0)?;
        self.note("step of a row", place, step, 1 << 18, 0)?;
        let mut each = Vec::with_capacity(linear.outputs);
        let rows = linear.weights.chunks(linear.inputs.max(1)).zip(&linear.steps).zip(&linear.bias);
        for ((row, weight_step), bias) in rows {
            let total: u128 = row.iter().map(|weight| u128::from(weight.unsigned_abs())).sum();
            self.note("sum of products", place, LARGEST_INPUT * total, WORD, 0)?;
            let weight_step = u128::from(*weight_step);
            self.note("product of steps", place, step * weight_step, WORD, 0)?;
            let apart: u128 =
                row.iter().zip(&input.each).map(|(weight, x)| u128::from(weight.unsigned_abs()) * x).sum();
            let together = input.norm.map_or(u128::MAX, |norm| {
                let (mut middle, mut length) = (0_i64, 0);
                for ((weight, gain), bias) in row.iter().zip(&norm.gain).zip(&norm.bias) {
                    middle += i64::from(*weight) * i64::from(*bias);
                    length += square(i64::from(*weight) * i64::from(*gain));
                }
                u128::from(middle.unsigned_abs()) + reach(length) + total.div_ceil(2)
            });
            // An integer of the quantiser times the step is at most the number itself plus half a step.
            let exact = apart.min(together) + (step * total).div_ceil(2);
            let product = (exact * weight_step).div_ceil(1 << linear.shift) + 1;
            let value = product + u128::from(bias.unsigned_abs());
            self.note(quantity, place, value, WORD, 15)?;
            each.push(value);
        }
        Ok(Signal { each, norm: None })
    }

    /// Hidden row + what a matrix made of `input`, and the norm of that.
    fn residual(
        &mut self,
        place: &str,
        (hidden, linear): (&Signal<'_>, &IntegerLinear),
        (input, output): (&Signal<'_>, &Signal<'_>),
    ) -> Result<(), Bound> {
        let width = hidden.each.len().max(1) as u128;
        let largest = hidden.each.iter().zip(&output.each).map(|(hidden, output)| hidden + output).max().unwrap_or(0);
        self.note("residual", place, largest, WORD, 15)?;

        // The sum over the outputs is one more linear function of the same input, whose weights are the column sums.
        let mut columns = vec![0_i64; linear.inputs];
        for (row, step) in linear.weights.chunks(linear.inputs.max(1)).zip(&linear.steps) {
            for (column, weight) in columns.iter_mut().zip(row) {
                *column += i64::from(*weight) * i64::from(*step);
            }
        }
        let half = input.step(LARGEST_INPUT).div_ceil(2);
        let products: u128 =
            columns.iter().zip(&input.each).map(|(column, x)| u128::from(column.unsigned_abs()) * (x + half)).sum();
        let bias: i64 = linear.bias.iter().map(|bias| i64::from(*bias)).sum();
        let made = products.div_ceil(1 << linear.shift) + u128::from(bias.unsigned_abs()) + width.div_ceil(2);
        let kept = hidden.norm.map_or_else(
            || hidden.each.iter().sum(),
            |norm| {
                let bias: i64 = norm.bias.iter().map(|bias| i64::from(*bias)).sum();
                let length = norm.gain.iter().map(|gain| square(i64::from(*gain))).sum();
                u128::from(bias.unsigned_abs()) + reach(length) + width.div_ceil(2)
            },
        );
        // The numerator of the mean, floor((sum + width / 2) / width).
        let sum = made + kept + width / 2;
        self.note("sum of a residual", place, sum, WORD, 15)?;
        self.note("distance from the mean", place, largest + sum / width + 1, HEADROOM, 15)
    }
}

impl IntegerModel {
    /// Bounds for every value of the encoder that hold for all token ids, each where it comes nearest to its limit; for a model
    /// whose vectors have the lengths that their documentation gives, as every model has that was converted or read.
    ///
    /// # Errors
    /// The first bound that exceeds its limit: then the model has no exact meaning and must not be used.
    pub fn ranges(&self) -> Result<Vec<Bound>, Bound> {
        let mut proof = Proof::default();
        let positions = self.positions() as u128;
        let head = self.hidden.checked_div(self.heads).unwrap_or(0).max(1);
        // What the probabilities of a row add up to: 2^15 (1 + 2^-15), and half a unit of rounding each.
        let probability = 32_769 + positions.div_ceil(2);
        let table = self.gelu.iter().map(|entry| u128::from(entry.unsigned_abs())).max().unwrap_or(0);

        // Rows of the tables add up to less than 2^16, far below what the first norm takes.
        let mut hidden = proof.norm("embeddings", &self.embedding_norm)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let at = |name: &str| format!("layer {index} {name}");
            let query = proof.linear("query", &at("query"), &layer.query, &hidden)?;
            let key = proof.linear("key", &at("key"), &layer.key, &hidden)?;
            for (query, key) in query.each.chunks(head).zip(key.each.chunks(head)) {
                let largest = |values: &[u128]| values.iter().copied().max().unwrap_or(0);
                let (query_step, key_step) = (step(largest(query), LARGEST_HEAD), step(largest(key), LARGEST_HEAD));
                proof.note("step of a head", &at("query"), query_step, 1 << 24, 0)?;
                proof.note("step of a head", &at("key"), key_step, 1 << 24, 0)?;
                proof.note("product of the steps of heads", &at("key"), query_step * key_step, WORD, 0)?;
                let terms = query.iter().zip(key);
                let terms = terms.map(|(query, key)| (query + query_step.div_ceil(2)) * (key + key_step.div_ceil(2)));
                // Differences of two logits are unsigned and have twice the room.
                proof.note("logit", &at("key"), terms.sum::<u128>().div_ceil(1 << 14) + 1, WORD, 16)?;
            }

            let value = proof.linear("value", &at("value"), &layer.value, &hidden)?;
            let short: Vec<u128> = value.each.iter().map(|value| (value + 32) >> 6).collect();
            let largest = short.iter().copied().max().unwrap_or(0);
            proof.note("value under the softmax", &at("value"), largest, i16::MAX as u64, 9)?;
            proof.note("sum of mixed values", &at("value"), probability * largest + 256, WORD, 24)?;
            let mixed = short.iter().map(|value| (probability * value + 256) >> 9).collect();
            let mixed = Signal { each: mixed, norm: None };
            let place = at("attention_output");
            let output = proof.linear("attention output", &place, &layer.attention_output, &mixed)?;
            proof.residual(&place, (&hidden, &layer.attention_output), (&mixed, &output))?;

            hidden = proof.norm(&at("attention_norm"), &layer.attention_norm)?;
            let wide = proof.linear("intermediate", &at("intermediate"), &layer.intermediate, &hidden)?;
            // GELU lies between -(the table's largest entry) and max(u, 0).
            let active = Signal { each: wide.each.iter().map(|u| *u.max(&table)).collect(), norm: None };
            let output = proof.linear("output", &at("output"), &layer.output, &active)?;
            proof.residual(&at("output"), (&hidden, &layer.output), (&active, &output))?;
            hidden = proof.norm(&at("output_norm"), &layer.output_norm)?;
        }
        proof.note("pooled sum", "pooling", positions * hidden.largest(), HEADROOM, 15)?;
        Ok(proof.0)
    }
}
