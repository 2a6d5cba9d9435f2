//! A row of weights from JSON, in the shapes that tools write.

use std::path::Path;

use serde_json::{Map, Value};

use super::decode::{self, Flaw};
use super::state::{State, parse};
use crate::Result;
use crate::data::read_text;
use crate::fixed::{I32F32, max_upscale_u16};

/// Uids and weights in submission order, without zeros: the SDKs leave them out.
pub type Row = Vec<(u16, u16)>;

/// Reads a row from a file: `{"uids", "weights"}`, `{"u16": {"uids", "values"}}` as `weights.json` has it, `{uid or hotkey: weight}`,
/// or `[[uid, weight], ...]`.
///
/// Weights are integers up to 65535, or of any scale: then the largest becomes 65535 and the others follow, rounded (YUMA §13.5).
///
/// # Errors
/// [`Error::File`](crate::Error::File) naming the field.
pub fn read(path: &Path, state: &State) -> Result<Row> {
    let file = path.display().to_string();
    let value = parse(&read_text(path)?).map_err(|flaw| flaw.in_file(&file))?;
    from_value(&value, state).map_err(|flaw| flaw.in_file(&file))
}

/// Reads rows from JSON Lines, each in one of the shapes of [`read`]; a `name` in an object names the row, else its line does. No row
/// weighs nobody, or somebody twice.
///
/// # Errors
/// [`Error::Row`](crate::Error::Row) naming line and field.
pub fn read_lines(path: &Path, state: &State) -> Result<Vec<(String, Row)>> {
    let file = path.display().to_string();
    let text = read_text(path)?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let rows = lines.map(|(line, number)| {
        let mut value = parse(line).map_err(|flaw| flaw.in_row(&file, number))?;
        let name = value.as_object_mut().and_then(|object| object.remove("name"));
        let name = name.as_ref().and_then(Value::as_str).map_or_else(|| number.to_string(), str::to_owned);
        let row = from_value(&value, state).and_then(|row| fits(&row, state.n()).map(|()| row));
        Ok((name, row.map_err(|flaw| flaw.in_row(&file, number))?))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    if rows.is_empty() {
        return Err(Flaw::new("(file)", "empty", "write a row of weights a line").in_file(&file));
    }
    Ok(rows)
}

/// Whether everybody is weighed once at most, and everybody who is weighed is in a subnet of n.
fn fits(row: &[(u16, u16)], n: usize) -> Result<(), Flaw> {
    let mut weighed = vec![false; n];
    for &(uid, _) in row {
        match weighed.get_mut(usize::from(uid)) {
            None => return Err(Flaw::new("uids", format!("uid {uid} is not below n = {n}"), "leave it out")),
            Some(true) => {
                return Err(Flaw::new("uids", format!("uid {uid} comes more than once"), "give it one weight"));
            }
            Some(weighed) => *weighed = true,
        }
    }
    Ok(())
}

fn from_value(value: &Value, state: &State) -> Result<Row, Flaw> {
    let pairs = match value {
        Value::Array(entries) => entries.iter().enumerate().map(|(place, entry)| pair(place, entry)).collect(),
        Value::Object(object) if object.contains_key("u16") => {
            parallel(decode::object(&object["u16"], "u16")?).map_err(|flaw| flaw.within("u16"))
        }
        Value::Object(object) if object.contains_key("uids") => parallel(object),
        Value::Object(object) => {
            object.iter().map(|(who, weight)| Ok((named(who, state)?, weight, who.clone()))).collect()
        }
        _ => Err(Flaw::new("(file)", "no row of weights", "write {\"uids\": [...], \"weights\": [...]}")),
    }?;
    let integers: Option<Vec<u16>> =
        pairs.iter().map(|(_, weight, _)| weight.as_u64().and_then(|weight| u16::try_from(weight).ok())).collect();
    let weights = match integers {
        Some(integers) => integers,
        None => {
            max_upscale_u16(&pairs.iter().map(|(_, value, field)| weight(value, field)).collect::<Result<Vec<_>, _>>()?)
        }
    };
    let row = pairs.iter().map(|pair| pair.0).zip(weights);
    Ok(row.filter(|(_, weight)| *weight > 0).collect())
}

/// Uid, weight and the field's name of each entry.
type Pairs<'a> = Vec<(u16, &'a Value, String)>;

fn pair(place: usize, entry: &Value) -> Result<(u16, &Value, String), Flaw> {
    let field = format!("[{place}]");
    match entry.as_array().map(Vec::as_slice) {
        Some([uid, weight]) => Ok((decode::integer(uid, &field)?, weight, field)),
        _ => Err(Flaw::new(field, "no pair of uid and weight", "write [[uid, weight], ...]")),
    }
}

/// `uids` beside `weights` or `values`.
fn parallel(object: &Map<String, Value>) -> Result<Pairs<'_>, Flaw> {
    decode::known_keys(object, &["uids", "weights", "values"])?;
    let part = |key: &str| {
        let missing = || Flaw::new(key, "missing", "write {\"uids\": [...], \"weights\": [...]}");
        object.get(key).ok_or_else(missing)
    };
    let key = if object.contains_key("values") { "values" } else { "weights" };
    let uids: Vec<u16> = decode::integers(part("uids")?, "uids")?;
    let weights = decode::array(part(key)?, key)?;
    if uids.len() != weights.len() {
        let problem = format!("{} weights for {} uids", weights.len(), uids.len());
        return Err(Flaw::new(key, problem, "give one weight for each uid"));
    }
    Ok(uids
        .into_iter()
        .zip(weights)
        .enumerate()
        .map(|(place, (uid, weight))| (uid, weight, format!("{key}[{place}]")))
        .collect())
}

/// The uid that a key names, by itself or by its hotkey.
fn named(who: &str, state: &State) -> Result<u16, Flaw> {
    let by_hotkey = state.hotkeys.iter().position(|hotkey| hotkey == who);
    let uid = by_hotkey.and_then(|uid| u16::try_from(uid).ok()).or_else(|| who.parse().ok());
    uid.ok_or_else(|| {
        Flaw::new(
            who,
            "neither a uid nor a hotkey of the subnet",
            "name miners by uid, or give the state its `hotkeys`",
        )
    })
}

fn weight(value: &Value, field: &str) -> Result<I32F32, Flaw> {
    value
        .as_f64()
        .and_then(I32F32::from_f64)
        .ok_or_else(|| Flaw::new(field, format!("{value} is no weight"), "write a number from 0 up, below 2^31"))
}
