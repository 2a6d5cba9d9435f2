//! What tools make of a subnet, recognised by its shape and brought to the form that [`State`](super::State) has.
//!
//! - *btcli 11* (`btcli --json subnets metagraph N`): the chain's own record, a column a field, in raw integers;
//! - *bittensor 11*: `neurons`, one object a neuron, beside that record as `raw` and matrices as `{validator: {miner: fraction}}`;
//! - *bittensor 9 and 10*: columns of floats (`uids`, `S`, `W`, ...), in TAO and in shares of one;
//! - *reference vectors*: `in`, or the first of `epochs`.
//!
//! `datasets/scripts/dump_metagraph_11.py` and `dump_metagraph_9_10.py` write the second and third. What an SDK made a float of is an
//! integer again here: shares are 65535ths, rows of weights are brought to their largest, 65535, as the chain stores them.
#![expect(
    clippy::float_arithmetic,
    reason = "it takes back the divisions that the SDKs did; nothing else reads its floats"
)]

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::decode::{self, Flaw};
use crate::fixed::{I32F32, max_upscale_u16};

type Object = Map<String, Value>;

/// Under what a tool may put the whole.
const WRAPPERS: [&str; 3] = ["metagraph", "result", "data"];

/// The state in `value`, which may be one already.
pub(super) fn state(value: &Value) -> Result<Cow<'_, Value>, Flaw> {
    let object = match value {
        Value::Object(object) => object,
        // As `neurons` alone: what is missing is said of the state.
        Value::Array(neurons) if neurons.first().is_some_and(|neuron| neuron.get("hotkey").is_some()) => {
            let alone = Object::from_iter([("neurons".to_owned(), value.clone())]);
            return Ok(Cow::Owned(Value::Object(by_neuron(&alone)?)));
        }
        _ => return Ok(Cow::Borrowed(value)),
    };
    let state = if object.contains_key("rao_emission") {
        return Ok(Cow::Borrowed(value));
    } else if object.contains_key("neurons") && !object.contains_key("uids") {
        by_neuron(object)?
    } else if ["uids", "S"].iter().any(|key| object.contains_key(*key)) {
        by_float_column(object)?
    } else if object.contains_key("hotkeys") && first(object, &["total_stake", "alpha_stake"]).is_some() {
        record(object, object)?
    } else if let Some(inner) = WRAPPERS.iter().filter_map(|key| object.get(*key)).find(|inner| inner.is_object()) {
        return state(inner);
    } else {
        return Ok(Cow::Borrowed(value));
    };
    Ok(Cow::Owned(Value::Object(state)))
}

/// The inputs of reference vectors' first epoch, and their `n`; `None` if these are none.
pub(super) fn vectors(value: &Value) -> Result<Option<(&Value, Option<usize>)>, Flaw> {
    let Some(object) = value.as_object() else { return Ok(None) };
    let inputs = match (object.get("epochs"), object.get("in")) {
        (Some(epochs), _) => {
            let first = decode::array(epochs, "epochs")?.first().and_then(|epoch| epoch.get("in"));
            Some(first.ok_or_else(|| Flaw::new("epochs[0].in", "missing", "give the inputs of an epoch"))?)
        }
        (None, inputs) => inputs,
    };
    let n = object.get("n").map(|n| decode::integer::<u64>(n, "n")).transpose()?;
    Ok(inputs.map(|inputs| (inputs, n.map(|n| n as usize))))
}

/// The first key that has something under it.
fn first<'a>(object: &'a Object, keys: &[&'static str]) -> Option<(&'static str, &'a Value)> {
    let something = |value: &Value| !value.is_null() && value.as_array().is_none_or(|array| !array.is_empty());
    keys.iter().find_map(|key| Some((*key, object.get(*key).filter(|value| something(value))?)))
}

/// The number itself, where a tool wrapped it: `[n]`, as the 9/10 SDK has `n` before it synchronised; `{"rao": n}`, a balance; `{"bits": n}`.
fn bare(value: &Value) -> &Value {
    match value {
        Value::Array(only) if only.len() == 1 => bare(&only[0]),
        Value::Object(fields) => ["rao", "bits"].iter().find_map(|key| fields.get(*key)).unwrap_or(value),
        _ => value,
    }
}

/// A number, which is not below zero.
fn float(value: &Value, field: &str) -> Result<f64, Flaw> {
    let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    number.filter(|number| number.is_finite() && *number >= 0.0).ok_or_else(|| {
        Flaw::new(
            field,
            format!("{value} is not a number from 0 up"),
            "dump the metagraph again: nothing may be NaN or negative",
        )
    })
}

/// An integer as it is, or what a float is in the given parts of one.
fn scaled(value: &Value, scale: f64, field: &str) -> Result<u64, Flaw> {
    let value = bare(value);
    if value.is_null() {
        return Ok(0);
    }
    if value.is_f64() {
        let parts = (float(value, field)? * scale).round();
        // Up to 2^64, which saturates: the SDK's own rounding may reach it.
        return match parts <= 18_446_744_073_709_551_616.0 {
            true => Ok(parts as u64),
            false => Err(Flaw::new(field, format!("{value} is more than 64 bits hold"), "dump the metagraph again")),
        };
    }
    decode::integer(value, field)
}

/// The scale of amounts: rao in one TAO or alpha.
const RAO: f64 = 1e9;

/// The scale of shares.
const SHARE: f64 = 65_535.0;

/// A column of numbers.
fn column(value: &Value, field: &str, scale: f64) -> Result<Vec<u64>, Flaw> {
    let numbers = decode::array(value, field)?.iter().enumerate();
    numbers.map(|(place, value)| scaled(value, scale, &format!("{field}[{place}]"))).collect()
}

/// A column that the SDK made floats of, whole numbers too.
fn floats(value: &Value, field: &str, scale: f64) -> Result<Vec<u64>, Flaw> {
    let numbers = decode::array(value, field)?.iter().enumerate();
    numbers
        .map(|(place, value)| {
            let field = format!("{field}[{place}]");
            scaled(&json!(float(bare(value), &field)?), scale, &field)
        })
        .collect()
}

fn texts(numbers: &[u64]) -> Value {
    numbers.iter().map(u64::to_string).collect()
}

/// Everything that all shapes spell alike, from the object's own keys and the parameters'. Stake is the total: the chain has weighted its
/// TAO part already.
fn common(object: &Object, parameters: &Object) -> Result<Object, Flaw> {
    let mut state = Object::new();
    let mut number = |from: &[&'static str], to: &str| -> Result<(), Flaw> {
        if let Some((key, value)) = first(object, from) {
            state.insert(to.into(), json!(scaled(value, 1.0, key)?));
        }
        Ok(())
    };
    number(&["netuid"], "netuid")?;
    number(&["mechid"], "mechid")?;
    number(&["block"], "block")?;
    number(&["last_step"], "last_mechanism_step_block")?;
    let hotkeys = object.get("hotkeys").cloned().unwrap_or_else(|| json!([]));
    let owner = object.get("owner_hotkey").and_then(Value::as_str);
    let owner = owner.and_then(|owner| hotkeys.as_array()?.iter().position(|hotkey| hotkey == owner));
    let mut hyper = hyper(parameters)?;
    hyper.insert("owner_uid".into(), json!(owner));
    state.insert("hyper".into(), Value::Object(hyper));
    state.insert("hotkeys".into(), hotkeys);
    for key in ["coldkeys", "validator_permit"] {
        if let Some((_, value)) = first(object, &[key]) {
            state.insert(key.into(), value.clone());
        }
    }
    for key in ["last_update", "block_at_registration"] {
        let blocks = first(object, &[key]).map_or(Ok(Vec::new()), |(key, value)| column(value, key, 1.0))?;
        state.insert(key.into(), json!(blocks));
    }
    Ok(state)
}

/// The parameters of the epoch, and those that weights have to keep to.
fn hyper(parameters: &Object) -> Result<Object, Flaw> {
    // The chain's name, ours, and the parts of one that a float is in.
    const NAMES: [(&[&str], &str, f64); 11] = [
        (&["tempo"], "tempo", 1.0),
        (&["activity_cutoff"], "activity_cutoff_blocks", 1.0),
        (&["max_validators", "max_allowed_validators"], "max_allowed_validators", 1.0),
        (&["kappa"], "kappa", SHARE),
        (&["bonds_penalty"], "bonds_penalty", SHARE),
        // As `u64 / (2^64 - 1)`, of millionths.
        (&["bonds_moving_avg"], "bonds_moving_average", u64::MAX as f64),
        (&["alpha_low"], "alpha_low", SHARE),
        (&["alpha_high"], "alpha_high", SHARE),
        (&["alpha_sigmoid_steepness"], "alpha_sigmoid_steepness", 1.0),
        (&["min_allowed_weights"], "min_allowed_weights", SHARE),
        (&["max_weights_limit", "max_weight_limit"], "max_weights_limit", SHARE),
    ];
    let mut hyper = Object::new();
    for (from, to, scale) in NAMES {
        if let Some((key, value)) = first(parameters, from) {
            // No share is above one: it is the integer, as a float.
            let scale = if value.as_f64().is_some_and(|number| number > 1.0) { 1.0 } else { scale };
            hyper.insert(to.into(), json!(scaled(value, scale, key)?));
        }
    }
    if let Some((key, value)) = first(parameters, &["liquid_alpha_enabled"]) {
        hyper.insert("liquid_alpha".into(), json!(decode::boolean(value, key)?));
    }
    if let Some((key, value)) = first(parameters, &["yuma_version"]) {
        hyper.insert("yuma3".into(), json!(scaled(value, 1.0, key)? >= 3));
    }
    if let Some((_, value)) = first(parameters, &["epoch_consensus"]) {
        hyper.insert(
            "epoch_consensus".into(),
            value.as_str().map_or_else(|| value.clone(), |name| json!(name.to_lowercase())),
        );
    }
    Ok(hyper)
}

/// What the neurons earned last, together: what the next epoch will have to share is not known before it.
fn pot(state: &mut Object, emission: &[u64]) {
    let pot: u64 = emission.iter().fold(0, |sum, emission| sum.saturating_add(*emission));
    state.insert("rao_emission".into(), json!(pot.to_string()));
}

/// The chain's record. Matrices stand in `around`, which may hold the record.
fn record(object: &Object, around: &Object) -> Result<Object, Flaw> {
    let mut state = common(object, object)?;
    let missing = || Flaw::new("total_stake", "missing", "dump the whole metagraph");
    let (key, stake) = first(object, &["total_stake", "alpha_stake"]).ok_or_else(missing)?;
    let n = decode::array(stake, key)?.len();
    state.insert("stake".into(), texts(&column(stake, key, RAO)?));
    let emission = first(object, &["emission"]).map_or(Ok(Vec::new()), |(key, value)| column(value, key, RAO))?;
    pot(&mut state, &emission);
    if let Some((key, consensus)) = first(object, &["consensus"]) {
        state.insert("stored_consensus".into(), json!(column(consensus, key, SHARE)?));
    }
    matrices(&mut state, around, n)?;
    Ok(state)
}

/// bittensor 11: from `raw`, which is the record, or from the neurons.
fn by_neuron(object: &Object) -> Result<Object, Flaw> {
    let nothing = Object::new();
    let raw = object.get("raw").and_then(Value::as_object).unwrap_or(&nothing);
    let parameters = object.get("hyperparameters").and_then(Value::as_object);
    let neurons = decode::array(&object["neurons"], "neurons")?;
    let mut columns = Object::new();
    for key in ["netuid", "mechid", "block", "tempo", "last_step", "owner_hotkey"] {
        if let Some(value) = object.get(key).or_else(|| raw.get(key)).filter(|value| !value.is_null()) {
            columns.insert(key.into(), value.clone());
        }
    }
    for (key, value) in raw.iter().chain(parameters.into_iter().flatten()) {
        columns.entry(key).or_insert_with(|| value.clone());
    }
    let mut sorted = Vec::with_capacity(neurons.len());
    for (place, neuron) in neurons.iter().enumerate() {
        let field = format!("neurons[{place}]");
        let neuron = decode::object(neuron, &field)?;
        let uid = neuron
            .get("uid")
            .ok_or_else(|| Flaw::new(format!("{field}.uid"), "missing", "give every neuron its uid"))?;
        sorted.push((decode::integer::<u16>(bare(uid), &format!("{field}.uid"))?, place, neuron));
    }
    sorted.sort_by_key(|neuron| neuron.0);
    if let Some((uid, (found, place, _))) =
        sorted.iter().enumerate().find(|(uid, neuron)| usize::from(neuron.0) != *uid)
    {
        let problem = format!("{found}, where uid {uid} is next");
        return Err(Flaw::new(format!("neurons[{place}].uid"), problem, "dump all neurons, each once"));
    }
    // The neurons' own values, which are what the caller looked at; the record has them too.
    for (key, name, scale) in [
        ("hotkey", "hotkeys", None),
        ("coldkey", "coldkeys", None),
        ("validator_permit", "validator_permit", None),
        ("last_update", "last_update", Some(1.0)),
        ("block_at_registration", "block_at_registration", Some(1.0)),
        ("consensus", "consensus", Some(SHARE)),
        ("emission", "emission", Some(RAO)),
        ("total_stake", "total_stake", Some(RAO)),
        ("alpha_stake", "alpha_stake", Some(RAO)),
    ] {
        if !sorted.iter().all(|neuron| neuron.2.contains_key(key)) {
            continue;
        }
        let values = sorted.iter().map(|(_, place, neuron)| match scale {
            Some(scale) => Ok(json!(scaled(&neuron[key], scale, &format!("neurons[{place}].{key}"))?)),
            None => Ok(neuron[key].clone()),
        });
        columns.insert(name.into(), Value::Array(values.collect::<Result<_, Flaw>>()?));
    }
    if first(&columns, &["hotkeys"]).is_none() {
        return Err(Flaw::new("neurons[0].hotkey", "missing", "give every neuron its hotkey"));
    }
    let mut around = object.clone();
    let pairs = |key: &str| -> Option<Value> {
        let of = |neuron: &Object| neuron.get(key).or_else(|| neuron.get("raw")?.get(key)).cloned();
        let rows: Object = sorted.iter().filter_map(|neuron| Some((neuron.0.to_string(), of(neuron.2)?))).collect();
        (!rows.is_empty()).then_some(Value::Object(rows))
    };
    for key in ["weights", "bonds"] {
        if first(object, &[key]).is_none()
            && let Some(rows) = pairs(key)
        {
            around.insert(key.into(), rows);
        }
    }
    record(&columns, &around)
}

/// bittensor 9 and 10.
fn by_float_column(object: &Object) -> Result<Object, Flaw> {
    let nothing = Object::new();
    let parameters = ["hparams", "hyperparameters"].iter().find_map(|key| object.get(*key)?.as_object());
    let mut parameters = parameters.unwrap_or(&nothing).clone();
    if let Some(tempo) = object.get("tempo").filter(|tempo| !tempo.is_null()) {
        parameters.entry("tempo").or_insert_with(|| tempo.clone());
    }
    let mut state = common(object, &parameters)?;
    let lite = "synchronise the metagraph first, with lite=False";
    let missing = || Flaw::new("S", "missing", lite);
    let (key, stake) = first(object, &["S", "total_stake", "stake"]).ok_or_else(missing)?;
    let stake = floats(stake, key, RAO)?;
    let n = stake.len();
    if let Some((key, given)) = first(object, &["n"])
        && scaled(given, 1.0, key)? != n as u64
    {
        return Err(Flaw::new(key, format!("{given}, where there are {n} stakes"), lite));
    }
    if let Some((key, uids)) = first(object, &["uids"]) {
        let uids = column(uids, key, 1.0)?;
        if let Some((place, uid)) = uids.iter().enumerate().find(|(place, uid)| **uid != *place as u64) {
            let problem = format!("{uid}, where uid {place} is next");
            return Err(Flaw::new(format!("{key}[{place}]"), problem, "dump all neurons, in the order of their uids"));
        }
    }
    state.insert("stake".into(), texts(&stake));
    pot(&mut state, &first(object, &["E", "emission"]).map_or(Ok(Vec::new()), |(key, value)| floats(value, key, RAO))?);
    if let Some((key, consensus)) = first(object, &["C", "consensus"]) {
        state.insert("stored_consensus".into(), json!(floats(consensus, key, SHARE)?));
    }
    // What the chain has, where the SDK kept it, rather than what numpy made of it.
    let mut around = object.clone();
    for (key, alias) in [("weights", "W"), ("bonds", "B")] {
        let neurons = object.get("neurons").and_then(Value::as_array);
        let rows: Object = neurons
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(uid, neuron)| {
                Some((uid.to_string(), neuron.get(key).filter(|pairs| pairs.is_array())?.clone()))
            })
            .collect();
        if !rows.is_empty() {
            around.insert(key.into(), Value::Object(rows));
        } else if let Some((_, dense)) = first(object, &[alias, key]) {
            around.insert(key.into(), dense.clone());
        }
    }
    matrices(&mut state, &around, n)?;
    Ok(state)
}

/// Weights and bonds as triples; none where there is no matrix.
fn matrices(state: &mut Object, object: &Object, n: usize) -> Result<(), Flaw> {
    for (key, values_key) in [("weights", "w"), ("bonds", "b")] {
        let (mut i, mut j, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let rows = first(object, &[key]).map_or(Ok(Vec::new()), |(_, value)| rows(value, key, n))?;
        for (uid, row) in rows {
            i.extend(std::iter::repeat_n(uid, row.len()));
            j.extend(row.iter().map(|entry| entry.0));
            values.extend(row.iter().map(|entry| entry.1));
        }
        state.insert(key.into(), json!({"i": i, "j": j, values_key: values}));
    }
    Ok(())
}

type Rows = Vec<(u16, Vec<(u16, u16)>)>;

/// A matrix: `{uid: {uid: value}}`, `{uid: [[uid, value], ...]}` or n rows of n numbers.
fn rows(value: &Value, field: &str, n: usize) -> Result<Rows, Flaw> {
    let fraction = field == "weights";
    let mut rows = Rows::new();
    match value {
        Value::Object(sparse) => {
            for (who, row) in sparse {
                let field = format!("{field}[{who}]");
                let entries: Vec<(String, &Value)> = match row {
                    Value::Object(row) => row.iter().map(|(uid, value)| (uid.clone(), value)).collect(),
                    _ => decode::array(row, &field)?
                        .iter()
                        .map(|pair| match pair.as_array().map(Vec::as_slice) {
                            Some([uid, value]) => Ok((uid.to_string(), value)),
                            _ => Err(Flaw::new(
                                &field,
                                format!("{pair} is no pair of uid and value"),
                                "write [[uid, value], ...]",
                            )),
                        })
                        .collect::<Result<_, _>>()?,
                };
                let uids = entries.iter().map(|entry| uid(&entry.0, &field)).collect::<Result<Vec<_>, _>>()?;
                let values: Vec<&Value> = entries.iter().map(|entry| entry.1).collect();
                rows.push((
                    uid(who, &field)?,
                    uids.into_iter().zip(integers(&values, fraction, SHARE, &field)?).collect(),
                ));
            }
            // Object keys are in the order of texts.
            rows.sort_by_key(|row| row.0);
            if value_maps(sparse) {
                rows.iter_mut().for_each(|row| row.1.sort_by_key(|entry| entry.0));
            }
        }
        Value::Array(dense) if dense.iter().all(Value::is_array) => {
            for (who, row) in dense.iter().enumerate() {
                let field = format!("{field}[{who}]");
                let row = decode::array(row, &field)?;
                if row.len() != n || dense.len() != n {
                    let problem = format!("{} rows, this one of {} numbers, for n = {n}", dense.len(), row.len());
                    return Err(Flaw::new(
                        field,
                        problem,
                        "give n rows of n numbers; the root subnet has no such matrix",
                    ));
                }
                // Bonds are the chain's integers here, as floats.
                let values = integers(&row.iter().collect::<Vec<_>>(), fraction, 1.0, &field)?;
                rows.push((who as u16, (0..).zip(values).filter(|entry| entry.1 > 0).collect()));
            }
        }
        // A vector, empty or not: there is no matrix, as after a lite synchronisation.
        _ => {}
    }
    Ok(rows)
}

/// Whether rows are maps, whose order says nothing.
fn value_maps(sparse: &Object) -> bool {
    sparse.values().any(Value::is_object)
}

fn uid(text: &str, field: &str) -> Result<u16, Flaw> {
    text.parse().map_err(|_| Flaw::new(field, format!("{text} is no uid"), "name neurons by their uids"))
}

/// A row as the chain has it: integers as they are; floats brought to their largest (weights), or in the given parts.
fn integers(row: &[&Value], fraction: bool, scale: f64, field: &str) -> Result<Vec<u16>, Flaw> {
    if fraction && row.iter().any(|value| value.is_f64()) {
        let fixed = row.iter().map(|value| {
            I32F32::from_f64(float(value, field)?).ok_or_else(|| {
                Flaw::new(field, format!("{value} is no weight"), "write a number from 0 up, below 2^31")
            })
        });
        return Ok(max_upscale_u16(&fixed.collect::<Result<Vec<_>, _>>()?));
    }
    row.iter()
        .map(|value| {
            let integer = scaled(value, scale, field)?;
            u16::try_from(integer)
                .map_err(|_| Flaw::new(field, format!("{integer} is above 65535"), "dump the metagraph again"))
        })
        .collect()
}
