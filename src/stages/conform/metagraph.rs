//! A subnet's metagraph, as far as rows of weights depend on it: read from whatever file holds it.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Who is in a subnet, and what it demands of a row of weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metagraph {
    /// The subnet; 0 where the file does not say.
    pub netuid: u16,
    /// Hotkeys by uid. Never empty.
    pub hotkeys: Vec<String>,
    /// Coldkeys by uid; empty where the file has none.
    pub coldkeys: Vec<String>,
    /// The fewest weights of a row, where the file says it.
    pub min_allowed_weights: Option<u16>,
    /// The largest share of a row that one miner may have, in 65535ths, where the file says it.
    pub max_weight_limit: Option<u16>,
    /// The subnet owner's uid, where the file says it.
    pub owner_uid: Option<u16>,
    /// The subnet owner's coldkey, where the file says it.
    pub owner_coldkey: Option<String>,
}

/// What is wrong with which field.
struct Flaw {
    field: String,
    problem: String,
    remedy: &'static str,
}

fn flaw(field: &str, problem: impl Into<String>, remedy: &'static str) -> Flaw {
    Flaw { field: field.to_owned(), problem: problem.into(), remedy }
}

/// Where hyperparameters stand beside the top.
const INNER: [&str; 4] = ["hyper", "hparams", "hyperparameters", "raw"];

impl Metagraph {
    /// Reads a file's text: a subnet's state as `epoch` reads it, what `btcli --json subnets metagraph` prints, or the like: one object with
    /// `hotkeys`, or with `neurons` of `uid` and `hotkey`; and where it has them `netuid`, `coldkeys`, `owner_uid` or `owner_hotkey`,
    /// `owner_coldkey`, `min_allowed_weights` and `max_weight_limit` or `max_weights_limit`, of which the last three may also stand under
    /// `hyper`, `hparams`, `hyperparameters` or (of SDK 11) `raw`. A limit below 1 with a point is a share, as SDKs 9 and 10 have it. Other keys are passed over.
    ///
    /// # Errors
    /// [`Error::File`] naming the field.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let value: Result<Value, Flaw> =
            serde_json::from_str(text).map_err(|error| flaw("(file)", error.to_string(), "write one JSON object"));
        let read = value.and_then(|value| match value.as_object() {
            Some(object) => Self::from_object(object),
            None => Err(flaw("(file)", "no JSON object", "write one JSON object")),
        });
        read.map_err(|Flaw { field, problem, remedy }| Error::File {
            file: file.to_owned(),
            field,
            problem,
            remedy: remedy.to_owned(),
        })
    }

    fn from_object(object: &Map<String, Value>) -> Result<Self, Flaw> {
        // SDKs 9 and 10 have lists of both; their neurons are of another shape.
        let (hotkeys, coldkeys) = match object.get("neurons").filter(|_| object.get("hotkeys").is_none()) {
            Some(neurons) => from_neurons(neurons)?,
            None => (strings(object, "hotkeys")?, strings(object, "coldkeys")?),
        };
        if hotkeys.is_empty() {
            return Err(flaw("hotkeys", "there are none to find uids by", "give the metagraph its `hotkeys`"));
        }
        if hotkeys.len() > usize::from(u16::MAX) {
            return Err(flaw("hotkeys", format!("{} of them", hotkeys.len()), "a uid has 16 bits: leave out neurons"));
        }
        if !coldkeys.is_empty() && coldkeys.len() != hotkeys.len() {
            let problem = format!("{} for {} hotkeys", coldkeys.len(), hotkeys.len());
            return Err(flaw("coldkeys", problem, "give one coldkey for each hotkey"));
        }
        let mut seen = HashMap::with_capacity(hotkeys.len());
        for (uid, hotkey) in hotkeys.iter().enumerate() {
            if let Some(earlier) = seen.insert(hotkey.as_str(), uid) {
                let problem = format!("{hotkey:?} is already that of uid {earlier}");
                return Err(flaw(&format!("hotkeys[{uid}]"), problem, "a hotkey has one uid in a subnet"));
            }
        }
        let owner_uid = match find(object, &["owner_uid"]) {
            Some((field, value)) => Some(integer(&field, value)?),
            None => object
                .get("owner_hotkey")
                .and_then(Value::as_str)
                .and_then(|owner| seen.get(owner))
                .map(|uid| *uid as u16),
        };
        if let Some(owner) = owner_uid.filter(|owner| usize::from(*owner) >= hotkeys.len()) {
            let problem = format!("uid {owner} is not below n = {}", hotkeys.len());
            return Err(flaw("owner_uid", problem, "write null for none"));
        }
        let whole = |keys: &[&str]| find(object, keys).map(|(field, value)| parameter(&field, value)).transpose();
        Ok(Self {
            netuid: object.get("netuid").map_or(Ok(0), |netuid| integer("netuid", netuid))?,
            min_allowed_weights: whole(&["min_allowed_weights"])?,
            max_weight_limit: whole(&["max_weight_limit", "max_weights_limit"])?,
            owner_uid,
            owner_coldkey: object.get("owner_coldkey").and_then(Value::as_str).map(str::to_owned),
            hotkeys,
            coldkeys,
        })
    }
}

/// The value of the first of `keys` that is there and not null, at the top or among the hyperparameters, and its name.
fn find<'a>(object: &'a Map<String, Value>, keys: &[&str]) -> Option<(String, &'a Value)> {
    let inner = INNER.iter().filter_map(|outer| Some((format!("{outer}."), object.get(*outer)?.as_object()?)));
    std::iter::once((String::new(), object)).chain(inner).find_map(|(outer, object)| {
        let key = keys.iter().find(|key| object.get(**key).is_some_and(|value| !value.is_null()))?;
        Some((format!("{outer}{key}"), object.get(*key)?))
    })
}

fn integer(field: &str, value: &Value) -> Result<u16, Flaw> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| flaw(field, format!("{value} is no integer from 0 to 65535"), "write one"))
}

/// A parameter in 65535ths; with a point it is a share of 65535.
fn parameter(field: &str, value: &Value) -> Result<u16, Flaw> {
    match value.as_f64().filter(|share| value.is_f64() && (0.0..=1.0).contains(share)) {
        Some(share) => Ok((share * 65_535.0).round() as u16),
        None => integer(field, value),
    }
}

fn strings(object: &Map<String, Value>, field: &str) -> Result<Vec<String>, Flaw> {
    let Some(value) = object.get(field).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let list = value.as_array().map(|list| list.iter().map(|value| value.as_str().map(str::to_owned)).collect());
    list.flatten().ok_or_else(|| flaw(field, "no list of strings", "write [\"...\", ...], by uid"))
}

/// Hotkeys and coldkeys of a list of neurons, whose uids must be 0 to n - 1 in any order.
fn from_neurons(neurons: &Value) -> Result<(Vec<String>, Vec<String>), Flaw> {
    let remedy = "write [{\"uid\", \"hotkey\", \"coldkey\"}, ...] of all uids";
    let neurons = neurons.as_array().ok_or_else(|| flaw("neurons", "no list", remedy))?;
    let mut keys: Vec<Option<(String, Option<String>)>> = vec![None; neurons.len()];
    for (place, neuron) in neurons.iter().enumerate() {
        let field = format!("neurons[{place}]");
        let key = |key: &str| neuron.get(key).and_then(Value::as_str).map(str::to_owned);
        let uid = neuron.get("uid").and_then(Value::as_u64).and_then(|uid| usize::try_from(uid).ok());
        let slot = uid.and_then(|uid| keys.get_mut(uid)).filter(|slot| slot.is_none());
        match (slot, key("hotkey")) {
            (Some(slot), Some(hotkey)) => *slot = Some((hotkey, key("coldkey"))),
            (None, _) => return Err(flaw(&field, "no uid below n that is its own", remedy)),
            (_, None) => return Err(flaw(&field, "no hotkey", remedy)),
        }
    }
    let (hotkeys, coldkeys): (Vec<String>, Vec<Option<String>>) = keys.into_iter().flatten().unzip();
    Ok((hotkeys, coldkeys.into_iter().collect::<Option<_>>().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_gives_the_same() {
        let right = Metagraph {
            netuid: 4,
            hotkeys: vec!["a".into(), "b".into()],
            coldkeys: vec!["x".into(), "y".into()],
            min_allowed_weights: Some(1),
            max_weight_limit: Some(6553),
            owner_uid: Some(1),
            owner_coldkey: None,
        };
        let shapes = [
            r#"{"netuid":4,"hotkeys":["a","b"],"coldkeys":["x","y"],"owner_hotkey":"b","min_allowed_weights":1,
                "max_weights_limit":6553,"block":7,"identity":null}"#,
            r#"{"netuid":4,"hotkeys":["a","b"],"coldkeys":["x","y"],"hyper":{"owner_uid":1},
                "hparams":{"min_allowed_weights":1.5259021896696422e-05,"max_weights_limit":0.09999237048905166}}"#,
            r#"{"netuid":4,"neurons":[{"uid":1,"hotkey":"b","coldkey":"y"},{"uid":0,"hotkey":"a","coldkey":"x"}],
                "owner_uid":"1","hyperparameters":{"min_allowed_weights":"1","max_weight_limit":6553}}"#,
        ];
        for shape in shapes {
            assert_eq!(Metagraph::parse(shape, "m.json").expect("legal"), right, "{shape}");
        }
    }

    /// `datasets/metagraph` has one invented subnet as each tool gives it.
    #[test]
    fn every_tool_gives_the_same() {
        let read = |name: &str| {
            let path = format!("{}/datasets/metagraph/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect("a file that ships");
            Metagraph::parse(&text, &path).expect("legal")
        };
        let right = read("btcli_11");
        assert_eq!(
            (right.min_allowed_weights, right.max_weight_limit),
            (Some(3), Some(21_845)),
            "as the chain has them"
        );
        assert_eq!((right.owner_uid, right.owner_coldkey.as_deref()), (Some(5), Some("cold_e")), "the owner");
        for name in ["v10", "v10_arrays", "v10_lite", "v11", "v11_pairs"] {
            assert_eq!(read(name), right, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let cases = [
            ("[]", "(file)"),
            ("{}", "hotkeys"),
            (r#"{"hotkeys":["a","a"]}"#, "hotkeys[1]"),
            (r#"{"hotkeys":["a",1]}"#, "hotkeys"),
            (r#"{"hotkeys":["a"],"coldkeys":["x","y"]}"#, "coldkeys"),
            (r#"{"hotkeys":["a"],"hyper":{"owner_uid":1}}"#, "owner_uid"),
            (r#"{"hotkeys":["a"],"max_weight_limit":70000}"#, "max_weight_limit"),
            (r#"{"hotkeys":["a"],"min_allowed_weights":1.5}"#, "min_allowed_weights"),
            (r#"{"neurons":[{"uid":1,"hotkey":"a"}]}"#, "neurons[0]"),
            (r#"{"neurons":[{"uid":0,"hotkey":"a"},{"uid":0,"hotkey":"b"}]}"#, "neurons[1]"),
        ];
        for (text, right) in cases {
            match Metagraph::parse(text, "m.json") {
                Err(Error::File { field, .. }) => assert_eq!(field, right, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
