//! The operations that the epoch is made of, against recordings of the chain's own.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use std::path::PathBuf;

use serde_json::Value;
use tauscore::fixed::{self, I32F32};
use tauscore::matrix::Csr;
use tauscore::stages::emission;
use tauscore::stages::yuma::liquid::LiquidAlpha;
use tauscore::stages::yuma::{bonds, consensus, stake};

fn operations() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("datasets/yuma/ops.json.gz");
    let packed = std::fs::File::open(&path).expect("datasets/yuma/ops.json.gz is in the repository");
    serde_json::from_reader(flate2::read::GzDecoder::new(packed)).expect("ops.json is JSON")
}

/// The rows of one operation, of which there are at least so many.
fn rows<'a>(operations: &'a Value, name: &str, at_least: usize) -> &'a [Value] {
    let rows = operations[name].as_array().expect("an array of rows");
    assert!(rows.len() >= at_least, "{name}: only {} rows", rows.len());
    rows
}

fn unsigned(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).expect("an unsigned integer")
}

fn signed(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).expect("a signed integer")
}

fn fixed_point(value: &Value) -> I32F32 {
    I32F32::from_bits(signed(value))
}

fn optional(value: &Value) -> Option<I32F32> {
    (!value.is_null()).then(|| fixed_point(value))
}

fn all<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().expect("an array").iter().map(read).collect()
}

#[test]
fn products() {
    let operations = operations();
    for row in rows(&operations, "mul", 600) {
        let (a, b) = (fixed_point(&row[0]), fixed_point(&row[1]));
        assert_eq!(a.saturating_mul(b), fixed_point(&row[2]), "saturating {row}");
        assert_eq!(a.checked_mul(b), optional(&row[3]), "checked {row}");
    }
}

#[test]
fn quotients() {
    let operations = operations();
    for row in rows(&operations, "div", 600) {
        let (a, b) = (fixed_point(&row[0]), fixed_point(&row[1]));
        assert_eq!(a.safe_div(b), fixed_point(&row[2]), "safe {row}");
        if let Some(expected) = optional(&row[3]) {
            assert_eq!(a.saturating_div(b), expected, "saturating {row}");
        }
    }
}

#[test]
fn exponentials() {
    let operations = operations();
    for row in rows(&operations, "exp_safe", 600) {
        assert_eq!(fixed_point(&row[0]).exp_safe(), fixed_point(&row[1]), "{row}");
    }
}

#[test]
fn liquid_alpha_rates() {
    let operations = operations();
    for row in rows(&operations, "alpha_sigmoid", 600) {
        let steepness = i16::try_from(signed(&row[5])).expect("16 bits");
        let alpha = LiquidAlpha::new(unsigned(&row[3]) as u16, unsigned(&row[4]) as u16, steepness);
        let rate = alpha.rate(fixed_point(&row[0]), fixed_point(&row[1]), fixed_point(&row[2]));
        assert_eq!(rate, fixed_point(&row[6]), "{row}");
    }
}

#[test]
fn weighted_medians() {
    let operations = operations();
    for row in rows(&operations, "weighted_median_col", 300) {
        let stake = all(&row["stake"], fixed_point);
        let columns = unsigned(&row["columns"]) as usize;
        let n = stake.len().max(columns);
        let mut weights = Csr::with_capacity(n, 0);
        for scores in row["score"].as_array().expect("rows") {
            for entry in scores.as_array().expect("entries") {
                weights.push(unsigned(&entry[0]) as u16, fixed_point(&entry[1]));
            }
            weights.end_row();
        }
        let mut stake = stake;
        stake.resize(n, I32F32::ZERO);
        let kappa = I32F32::from_proportion(unsigned(&row["kappa"]) as u16);
        let medians = consensus::Votes::default().consensus(&weights, &stake, kappa);
        assert_eq!(&medians[..columns], all(&row["median"], fixed_point), "{row}");
    }
}

#[test]
fn top_stakes() {
    let operations = operations();
    for row in rows(&operations, "topk_nonzero", 120) {
        let marked = stake::top_k(&all(&row["stake"], fixed_point), unsigned(&row["k"]) as usize);
        assert_eq!(marked, all(&row["flags"], |flag| unsigned(flag) == 1), "{row}");
    }
}

#[test]
fn weights_upscaled_and_limited() {
    let operations = operations();
    for row in rows(&operations, "max_upscale_u16", 250) {
        let values = all(&row[0], |value| I32F32::from_u16(unsigned(value) as u16));
        assert_eq!(fixed::max_upscale_u16(&values), all(&row[1], |value| unsigned(value) as u16), "{row}");
    }
    for row in rows(&operations, "check_vec_max_limited", 150) {
        let weights = all(&row[0], |value| unsigned(value) as u16);
        assert_eq!(Value::Bool(fixed::within_max_weight(&weights, unsigned(&row[1]) as u16)), row[2], "{row}");
    }
}

#[test]
fn proportions_in_and_out() {
    let operations = operations();
    for row in rows(&operations, "u16_proportion", 400) {
        let value = I32F32::from_proportion(unsigned(&row[0]) as u16);
        assert_eq!(value, fixed_point(&row[1]), "in {row}");
        assert_eq!(u64::from(value.to_proportion()), unsigned(&row[2]), "out {row}");
    }
    for row in rows(&operations, "to_u16_proportion", 400) {
        assert_eq!(u64::from(fixed_point(&row[0]).to_proportion()), unsigned(&row[1]), "{row}");
    }
}

#[test]
fn emissions() {
    let operations = operations();
    for row in rows(&operations, "emission", 300) {
        assert_eq!(fixed_point(&row[0]).of_rao(unsigned(&row[1])), unsigned(&row[2]), "{row}");
    }
    for row in rows(&operations, "ema_alpha", 120) {
        assert_eq!(bonds::moving_average_alpha(unsigned(&row[0])), fixed_point(&row[1]), "{row}");
    }
    for row in rows(&operations, "block_emission", 300) {
        assert_eq!(emission::block_emission(unsigned(&row[0])), unsigned(&row[1]), "{row}");
    }
}

/// Each switch point is where the emission changes: it holds there, and one rao earlier the previous one still does.
#[test]
fn block_emission_switches() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("datasets/yuma/block_emission.json");
    let text = std::fs::read_to_string(path).expect("datasets/yuma/block_emission.json is in the repository");
    let recorded: Value = serde_json::from_str(&text).expect("JSON");
    let mut before = None;
    for point in recorded["switch_points"].as_array().expect("points") {
        let (from, expected) = (unsigned(&point["from_issuance"]), unsigned(&point["block_emission"]));
        assert_eq!(emission::block_emission(from), expected, "at {from}");
        if let Some(before) = before {
            assert_eq!(emission::block_emission(from - 1), before, "just below {from}");
        }
        before = Some(expected);
    }
    assert_eq!(before, Some(0), "the last switch is to nothing");
    assert_eq!(emission::block_emission(u64::MAX), 0, "beyond the supply");

    // The schedule has these thresholds and no others: a period begins with the first block at or beyond its own.
    let points = recorded["switch_points"].as_array().expect("a list");
    let periods: Vec<emission::Period> = emission::schedule(0).collect();
    assert_eq!(periods.len() + 1, points.len(), "a period for each, but the last, where nothing is emitted");
    for (halvings, point) in points.iter().enumerate() {
        let (from, expected) = (unsigned(&point["from_issuance"]), unsigned(&point["block_emission"]));
        assert_eq!(emission::halving_threshold(halvings as u32), from, "halving {halvings}");
        let Some(period) = periods.get(halvings) else { continue };
        assert_eq!((period.halvings, period.emission), (halvings as u32, expected), "at {from}");
        let overshoot = halvings.checked_sub(1).map_or(1, |earlier| periods[earlier].emission);
        assert!((from..from + overshoot).contains(&period.issuance), "{period:?} at {from}");
    }
    let issued: u64 = periods.iter().map(|period| period.blocks * period.emission).sum();
    assert_eq!(issued, 20_999_999_980_442_226, "all that is ever issued");
}
