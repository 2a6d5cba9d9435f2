//! What is known of one hotkey, as text that gives back the same bits.
//!
//! JSON, with each number in a string: the shortest decimals that are this number and no other, which the standard library reads back
//! exactly (the JSON reader may be a last digit off).

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Number, Value};

use crate::{Error, Result};

/// Kind, hotkey and text of all that is known.
pub(super) fn leaves(memory: &impl Serialize) -> Result<Vec<(String, String, String)>> {
    let value = serde_json::to_value(memory).map_err(|error| refuse("memory", &error.to_string()))?;
    let Value::Object(kinds) = value else {
        return Err(refuse("memory", "no object of kinds"));
    };
    let mut leaves = Vec::new();
    for (kind, of_kind) in kinds {
        let Value::Object(of_kind) = of_kind else {
            return Err(refuse(&kind, "no object of hotkeys"));
        };
        for (hotkey, value) in of_kind {
            let text = write(value).map_err(|problem| refuse(&format!("{kind} of {hotkey}"), problem))?;
            leaves.push((kind.clone(), hotkey, text.to_string()));
        }
    }
    Ok(leaves)
}

fn refuse(what: &str, problem: &str) -> Error {
    Error::Usage {
        argument: what.into(),
        problem: problem.into(),
        remedy: "nothing of this round was kept: it would spoil all that follow".into(),
    }
}

/// Numbers to strings, within arrays and objects.
fn write(value: Value) -> Result<Value, &'static str> {
    match value {
        // What JSON makes of NaN and of the infinities.
        Value::Null => Err("not a finite number"),
        Value::Number(number) => Ok(Value::String(number.to_string())),
        Value::Array(values) => values.into_iter().map(write).collect::<Result<_, _>>().map(Value::Array),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| Ok((name, write(value)?)))
            .collect::<Result<_, _>>()
            .map(Value::Object),
        Value::Bool(_) | Value::String(_) => Err("no number"),
    }
}

/// Strings back to numbers.
pub(super) fn read(text: &str) -> Result<Value, String> {
    fn numbers(value: Value) -> Result<Value, String> {
        match value {
            Value::String(text) => number(&text).map(Value::Number).ok_or_else(|| format!("{text:?} is no number")),
            Value::Array(values) => values.into_iter().map(numbers).collect::<Result<_, _>>().map(Value::Array),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| Ok((name, numbers(value)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
            other => Err(format!("{other} is no number")),
        }
    }
    numbers(serde_json::from_str(text).map_err(|error| error.to_string())?)
}

/// Whole numbers have no point and no exponent, floats have one or the other.
fn number(text: &str) -> Option<Number> {
    let whole = u64::from_str(text).map(Number::from).or_else(|_| i64::from_str(text).map(Number::from));
    whole.ok().or_else(|| f64::from_str(text).ok().and_then(Number::from_f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_finite_number_comes_back_to_the_bit() {
        let mut bits = 0x3fd5_5555_5555_5555_u64;
        let mut numbers = vec![0.0, -0.0, 0.1, 1.0, 1e300, f64::MIN_POSITIVE, f64::from_bits(1), f64::MAX, -2.5e-7];
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            numbers.push(f64::from_bits(bits));
        }
        for number in numbers.into_iter().filter(|number| number.is_finite()) {
            let leaves = leaves(&json!({"averages": {"a": number}})).expect("finite");
            let back = read(&leaves[0].2).expect("a number");
            assert_eq!(back.as_f64().map(f64::to_bits), Some(number.to_bits()), "{number:e}");
        }
        let rating = json!({"mu": 25.0, "sigma": [8.25, 3], "games": u64::MAX});
        let text = leaves(&json!({"ratings": {"b": rating.clone()}})).expect("numbers")[0].2.clone();
        assert_eq!(read(&text), Ok(rating), "whole numbers stay whole, floats stay floats");
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        for (memory, names) in [
            (json!({"averages": {"5F": f64::NAN}}), "averages of 5F: not a finite number"),
            (json!({"ratings": {"5G": {"mu": f64::INFINITY}}}), "ratings of 5G: not a finite number"),
            (json!({"averages": {"5F": "high"}}), "averages of 5F: no number"),
            (json!({"averages": 3}), "averages: no object of hotkeys"),
            (json!([1]), "memory: no object of kinds"),
        ] {
            assert_eq!(leaves(&memory).expect_err(names).to_string(), names, "{memory}");
        }
        assert!(read("{\"mu\":\"x\"}").is_err() && read("{").is_err() && read("3").is_err(), "damaged text");
    }
}
