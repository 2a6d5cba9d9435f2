//! Rows of weights held to the SDKs: recorded calls, NumPy's own numbers, and the traps that give no error.
#![expect(clippy::expect_used, reason = "a data set that cannot be read must fail the test")]

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;

use common::package;
use serde_json::Value;
use tauscore::stages::conform::cases::Case;
use tauscore::stages::conform::legacy::{self, Floats};
use tauscore::stages::conform::numpy::{self, Real};
use tauscore::stages::conform::traps::{Trap, traps};
use tauscore::stages::conform::{Environment, Sdk, SdkError, Sent, Subnet, current, python, send};

fn unpacked(path: &Path) -> String {
    let mut text = String::new();
    let packed = fs::File::open(path).expect("the data set");
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).expect("gzip of text");
    text
}

#[test]
fn every_recorded_call_comes_out_as_its_sdk_has_it() {
    let path = package().join("datasets/weights/cases.json.gz");
    let cases = Case::parse(&unpacked(&path), "cases.json.gz").expect("legal");
    assert_eq!(cases.len(), 167, "all of them");
    for (_, python) in python::Version::ALL {
        for (_, numpy) in numpy::Version::ALL {
            let environment = Environment { python, numpy };
            for case in &cases {
                let outcome = case.run(environment);
                assert_eq!(case.agrees(&outcome, environment), Some(true), "{} {environment:?}: {outcome:?}", case.id);
            }
        }
    }
}

#[test]
fn a_changed_recording_is_noticed() {
    let text = unpacked(&package().join("datasets/weights/cases.json.gz"));
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    let differing = |file: &Value| {
        let cases = Case::parse(&file.to_string(), "changed").expect("legal");
        let environment = Environment::default();
        let differs = |case: &&Case| case.agrees(&case.run(environment), environment) == Some(false);
        cases.iter().filter(differs).map(|case| case.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(differing(&file), Vec::<String>::new(), "as recorded");
    file["cases"][0]["expect"]["values"][0] = 65_534.into();
    file["cases"][1]["expect"]["mid"]["sha256"] = "0000000000000000".into();
    file["cases"][17]["expect"]["message"] = "index 1 is out of bounds for axis 0 with size 2".into();
    file["cases"][19]["expect"]["error"] = "negative_weight".into();
    assert_eq!(differing(&file), ["p000", "p001", "p017", "p019"], "a value, the floats, a message, an error");
}

/// The numbers that `make_numpy_sums.py` draws.
fn drawn(seed: u64, size: usize) -> Vec<f64> {
    let mut state = seed;
    let mut bits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let draw = || {
        let (mantissa, exponent) = (bits() as f64, (bits() % 24) as i32);
        mantissa * 2_f64.powi(-31 - exponent)
    };
    std::iter::repeat_with(draw).take(size).collect()
}

#[test]
fn sums_and_quantiles_have_the_bits_of_numpy() {
    let path = package().join("datasets/weights/numpy.json");
    let golden: Value = serde_json::from_str(&fs::read_to_string(path).expect("the data set")).expect("JSON");
    let hex = |value: &Value| u64::from_str_radix(value.as_str().expect("text"), 16).expect("hexadecimal");
    let rows = golden["rows"].as_array().expect("rows");
    assert!(rows.len() > 200, "{} rows", rows.len());
    for row in rows {
        let (seed, size) = (row["seed"].as_u64().expect("a seed"), row["size"].as_u64().expect("a size") as usize);
        let wide = drawn(seed, size);
        let narrow: Vec<f32> = wide.iter().copied().map(f32::narrow).collect();
        assert_eq!(numpy::sum(&wide).to_bits(), hex(&row["sum_f64"]), "f64, seed {seed}, size {size}");
        assert_eq!(u64::from(numpy::sum(&narrow).to_bits()), hex(&row["sum_f32"]), "f32, seed {seed}, size {size}");
        let q = row["q"].as_u64().expect("65535ths") as f64 / 65_535.0;
        for (name, version) in numpy::Version::ALL {
            let right = hex(&row["quantile"][name]);
            let found = numpy::quantile(&narrow, q, version).to_bits();
            assert_eq!(u64::from(found), right, "NumPy {name}, seed {seed}, size {size}, q {q}");
        }
    }
}

/// A subnet of n uids.
fn subnet(n: usize, min_allowed_weights: usize, max_weight_limit: u16) -> Subnet {
    Subnet {
        netuid: 1,
        n,
        min_allowed_weights,
        max_weight_limit: f64::from(max_weight_limit) / 65_535.0,
        exclude_quantile: 0,
        own_uid: None,
    }
}

fn tried(sdk: Sdk, uids: &[i64], weights: &[f64], subnet: &Subnet) -> (Result<Sent, SdkError>, Vec<Trap>) {
    let environment = Environment::default();
    let sent = send(sdk, uids, weights, subnet, environment);
    let found = traps(sdk, uids, weights, subnet, environment, &sent);
    (sent, found)
}

fn names(traps: &[Trap]) -> Vec<&'static str> {
    traps.iter().map(Trap::name).collect()
}

#[test]
fn a_good_row_is_in_no_trap() {
    let subnet = subnet(4, 2, 65_535);
    for (_, sdk) in Sdk::ALL {
        let (sent, found) = tried(sdk, &[0, 1, 2, 3], &[0.0, 0.5, 0.25, 0.25], &subnet);
        assert_eq!(sent, Ok(Sent { uids: vec![1, 2, 3], values: vec![65_535, 32_768, 32_768] }), "{sdk:?}");
        assert_eq!(found, [], "{sdk:?}");
    }
}

#[test]
fn every_trap_is_named_where_it_is() {
    let nan = f64::NAN;
    let (legacy, current) = (Sdk::Ten, Sdk::Eleven);
    let large = 65_535;
    // SDK, uids, weights, n, minimum, limit, traps.
    type Row<'a> = (Sdk, &'a [i64], &'a [f64], usize, usize, u16, &'a [&'a str]);
    let rows: [Row<'_>; 26] = [
        // Limit 0.1: two that weigh something, or three in all.
        (legacy, &[0, 1, 2], &[0.9, 0.1, 0.0], 3, 1, 6553, &["uniform", "over_limit"]),
        (current, &[0, 1, 2], &[1.0, 0.0, 0.0], 3, 1, 6553, &["uniform", "over_limit"]),
        // Equality counts: 3 x 21845 / 65535 is 1.
        (current, &[0, 1, 2], &[0.9, 0.05, 0.05], 3, 1, 21_845, &["uniform"]),
        // A lone weight is all of the row whatever the limit, and equal ones are equal.
        (legacy, &[0, 1, 2], &[0.0, 0.3, 0.0], 3, 1, 6553, &["over_limit"]),
        (current, &[0, 1], &[0.3, 0.3], 3, 1, 6553, &["over_limit"]),
        (legacy, &[0, 1, 2, 3], &[0.5, 0.5, 0.0, 0.0], 4, 3, large, &["padded"]),
        (legacy, &[0, 1, 2, 3], &[0.9, 0.1, 0.0, 0.0], 4, 3, 16_383, &["padded", "uniform", "over_limit"]),
        (legacy, &[3, 1, 2], &[0.5, 0.5, 0.0], 4, 3, large, &["padded", "by_place"]),
        (legacy, &[0, 1], &[0.0, 0.0], 4, 1, large, &["all_zero"]),
        (legacy, &[0, 1], &[nan, -1.0], 4, 1, large, &["all_zero", "dropped"]),
        (current, &[0, 1], &[0.0, 0.0], 4, 1, large, &["all_zero"]),
        (current, &[0, 1, 2], &[nan, 0.0, 0.0], 3, 1, 21_845, &["all_zero", "uniform", "swallowed"]),
        (legacy, &[0, 1, 2], &[nan, 1.0, 1.0], 3, 1, large, &["dropped"]),
        (legacy, &[0, 1, 2], &[-1.0, 1.0, 1.0], 3, 1, large, &["dropped"]),
        (legacy, &[0, 1, 2], &[f64::INFINITY, 1.0, 1.0], 3, 1, 6553, &["uniform", "swallowed", "over_limit"]),
        (current, &[0, 1, 2], &[-0.1, 1.0, 1.0], 3, 1, 6553, &["uniform", "swallowed", "over_limit"]),
        (legacy, &[0, 1, 2], &[0.5, 0.3, 0.2], 3, 4, large, &["minimum_above_n"]),
        (current, &[0, 1, 2], &[0.5, 0.3, 0.2], 3, 4, large, &["minimum_above_n"]),
        (legacy, &[2, 2], &[0.5, 0.5], 3, 1, large, &["duplicate"]),
        (legacy, &[0, 1, 2], &[1.0, 7e-6, 7e-6], 3, 3, large, &["below_minimum"]),
        (legacy, &[0, 1, 2], &[0.5, 0.5], 3, 1, large, &["length_mismatch"]),
        (legacy, &[0, 3], &[0.5, 0.5], 3, 1, large, &["beyond_metagraph"]),
        (current, &[0, 3], &[0.5, 0.5], 3, 1, large, &["beyond_metagraph"]),
        (legacy, &[0, 1, 2], &[3e38, 3e38, 3e38], 3, 1, large, &["overflow", "below_minimum"]),
        // An error of the SDK is its own, and no trap.
        (current, &[0, 1, 2], &[nan, 1.0, 1.0], 3, 1, large, &[]),
        (current, &[2, 2], &[0.5, 0.5], 3, 1, large, &[]),
    ];
    let mut seen = Vec::new();
    for (sdk, uids, weights, n, minimum, limit, right) in rows {
        let (_, found) = tried(sdk, uids, weights, &subnet(n, minimum, limit));
        assert_eq!(names(&found), right, "SDK {} {uids:?} {weights:?} {n} {minimum} {limit}", sdk.name());
        seen.extend(found.iter().map(|trap| (trap.name(), trap.to_string())));
    }
    for name in Trap::NAMES {
        let messages = seen.iter().filter(|(seen, _)| *seen == name).count();
        assert!(messages > 0, "no row is in the trap {name}");
    }
    assert!(seen.iter().all(|(_, message)| message.contains("; ")), "each says what to do");
}

#[test]
fn a_lone_weight_on_oneself_is_exempt() {
    let own = Subnet { own_uid: Some(5), ..subnet(12, 8, 655) };
    let (sent, found) = tried(Sdk::Eleven, &[5], &[0.37], &own);
    assert_eq!(sent, Ok(Sent { uids: vec![5], values: vec![65_535] }), "SDK 11 lets it pass");
    assert_eq!(found, [], "and so does the chain");
    let (sent, found) = tried(Sdk::Ten, &[5], &[0.37], &own);
    assert_eq!(sent.expect("no error").uids.len(), 12, "SDKs 9 and 10 pad it");
    assert_eq!(names(&found), ["padded", "by_place", "uniform", "over_limit"], "which is said");
}

#[test]
fn what_was_sent_is_sent_again_unchanged() {
    let uids: Vec<i64> = (0..64).collect();
    for seed in 0..50 {
        let weights = drawn(seed, 64);
        let sent = send(Sdk::Ten, &uids, &weights, &subnet(64, 1, 6553), Environment::default()).expect("good");
        let again: Vec<f64> = sent.values.iter().copied().map(f64::from).collect();
        assert_eq!(legacy::emit(&sent.uids, &again, python::Version::Py311), Ok(sent.clone()), "seed {seed}");
        let unlimited = subnet(64, 1, 65_535);
        assert_eq!(current::conform(&sent.uids, &again, &unlimited, python::Version::Py311), Ok(sent), "seed {seed}");
    }
}

#[test]
fn where_three_infinities_meet_a_third_python_divides_by_zero() {
    // 1 - 3 * (21845 / 65535) is 0, which SDK 11 meets where the infinities come last.
    let thirds = subnet(4, 1, 21_845);
    let (one, infinite) = (1.0, f64::INFINITY);
    let last = send(Sdk::Eleven, &[0, 1, 2, 3], &[one, infinite, infinite, infinite], &thirds, Environment::default());
    assert_eq!(last, Err(SdkError::ZeroDivision), "behind");
    let first = send(Sdk::Eleven, &[0, 1, 2, 3], &[infinite, infinite, infinite, one], &thirds, Environment::default());
    assert_eq!(first, Err(SdkError::NotFiniteOrNegative), "in front");
}

#[test]
fn a_limit_is_a_u16_again() {
    for limit in 0..=u16::MAX {
        let share = f64::from(limit) / 65_535.0;
        let sent = Sent { uids: vec![0, 1], values: vec![limit, 65_535 - limit] };
        assert_eq!(sent.is_within(share), limit >= 32_768, "{limit} of 65535");
    }
}

#[test]
fn padding_is_in_f64_and_the_rest_in_f32() {
    let of = |minimum| {
        let weights = &[0.5, 0.25, 0.25, 0.0];
        legacy::process(&[0, 1, 2, 3], weights, &subnet(4, minimum, 65_535), numpy::Version::V2_4)
            .expect("good")
            .weights
    };
    assert_eq!(of(3), Floats::F32(vec![0.5, 0.25, 0.25]), "kept");
    let total = (0.5 + 1e-5) + (0.25 + 1e-5) + (0.25 + 1e-5) + 1e-5;
    let padded = [0.5 + 1e-5, 0.25 + 1e-5, 0.25 + 1e-5, 1e-5].map(|weight: f64| weight / total);
    assert_eq!(of(4), Floats::F64(padded.to_vec()), "padded");
    assert_eq!(of(5), Floats::F64(vec![0.25; 4]), "a subnet below its own minimum");
}

/// `storage-subnet#145`: a NaN became the same weight for everybody.
#[test]
fn storage_subnet_145_nan_for_everybody_is_not_sent() {
    let (sent, found) = tried(Sdk::Nine, &[0, 1, 2], &[f64::NAN; 3], &subnet(3, 1, 65_535));
    assert_eq!(sent.map(|sent| sent.values), Ok(vec![65_535; 3]), "what the SDK would send");
    assert_eq!(names(&found), ["all_zero", "dropped"], "both are named");
    assert!(found.iter().all(Trap::forbids), "and either keeps it from being written");
}

/// `BittAudio#1`: weights went by place, not by uid, so only the lowest uids got any.
#[test]
fn bittaudio_1_padding_by_place_is_not_sent() {
    let (sent, found) = tried(Sdk::Ten, &[7, 9], &[0.6, 0.4], &subnet(10, 3, 65_535));
    let sent = sent.expect("no error of the SDK");
    assert_eq!((sent.uids[0], sent.values[0]), (0, 65_535), "the weight of uid 7 goes to uid 0");
    assert_eq!(names(&found), ["padded", "by_place"], "which is named");
}
