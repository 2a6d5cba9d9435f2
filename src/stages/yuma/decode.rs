//! JSON values into numbers, with the place of whatever does not fit.

use serde_json::{Map, Value};

use crate::Error;

/// What is wrong with which field of a file that the caller knows.
#[derive(Clone, Debug)]
pub(crate) struct Flaw {
    pub(crate) field: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl Flaw {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// The same flaw, seen from the object that holds this one.
    pub(crate) fn within(mut self, outer: &str) -> Self {
        self.field = if self.field.starts_with('[') || self.field.is_empty() {
            format!("{outer}{}", self.field)
        } else {
            format!("{outer}.{}", self.field)
        };
        self
    }

    pub(crate) fn in_file(self, file: &str) -> Error {
        Error::File { file: file.into(), field: self.field, problem: self.problem, remedy: self.remedy }
    }

    pub(crate) fn in_row(self, file: &str, line: usize) -> Error {
        Error::Row { file: file.into(), line, field: self.field, problem: self.problem, remedy: self.remedy }
    }
}

const INTEGER_REMEDY: &str = "write it as a number or as a string of decimal digits";

/// An object, by name.
pub(crate) fn object<'a>(value: &'a Value, field: &str) -> Result<&'a Map<String, Value>, Flaw> {
    value
        .as_object()
        .ok_or_else(|| Flaw::new(field, format!("{} where an object is expected", kind(value)), "write { ... }"))
}

/// An array, by name.
pub(crate) fn array<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], Flaw> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| Flaw::new(field, format!("{} where an array is expected", kind(value)), "write [ ... ]"))
}

/// Refuses keys that mean nothing: a misspelt one would otherwise be a silent default.
pub(crate) fn known_keys(object: &Map<String, Value>, known: &[&str]) -> Result<(), Flaw> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Flaw::new(key, "unknown key", format!("known are {}", known.join(", ")))),
        None => Ok(()),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// An unsigned integer, as a number or as a decimal string; the error is the problem only.
fn unsigned<T: TryFrom<u64>>(value: &Value) -> Result<T, String> {
    let integer = match value {
        Value::Number(number) => number.as_u64().ok_or_else(|| refuse(&number.to_string()))?,
        Value::String(text) => digits(text).ok_or_else(|| refuse(text))?,
        other => return Err(format!("{} where an integer is expected", kind(other))),
    };
    let limit = u128::pow(2, 8 * size_of::<T>() as u32) - 1;
    T::try_from(integer).map_err(|_| format!("{integer} is above {limit}"))
}

/// Decimal digits only: no sign, no blank.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn refuse(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    let (sign, magnitude) = shown.strip_prefix('-').map_or(("", shown.as_str()), |rest| ("-", rest));
    let whole = !magnitude.is_empty() && magnitude.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, sign) {
        (true, "-") => format!("{shown} is negative"),
        (true, _) => format!("{shown} does not fit 64 bits"),
        _ => format!("{shown:?} is not an integer"),
    }
}

/// An unsigned integer, by name.
pub(crate) fn integer<T: TryFrom<u64>>(value: &Value, field: &str) -> Result<T, Flaw> {
    unsigned(value).map_err(|problem| Flaw::new(field, problem, INTEGER_REMEDY))
}

/// A signed 16-bit integer, by name.
pub(crate) fn signed(value: &Value, field: &str) -> Result<i16, Flaw> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| i16::try_from(number).ok())
        .ok_or_else(|| Flaw::new(field, format!("{value} is not an integer in -32768 ..= 32767"), INTEGER_REMEDY))
}

fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        _ => match unsigned::<u64>(value) {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            _ => Err(format!("{value} is neither 0 nor 1")),
        },
    }
}

/// A boolean, also as 0 or 1, by name.
pub(crate) fn boolean(value: &Value, field: &str) -> Result<bool, Flaw> {
    truth(value).map_err(|problem| Flaw::new(field, problem, "write true or false"))
}

/// An array, one element at a time; `read` returns the problem.
fn list<T>(
    value: &Value,
    field: &str,
    remedy: &str,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, Flaw> {
    let elements = array(value, field)?;
    let mut list = Vec::with_capacity(elements.len());
    for (place, element) in elements.iter().enumerate() {
        list.push(read(element).map_err(|problem| Flaw::new(format!("{field}[{place}]"), problem, remedy))?);
    }
    Ok(list)
}

/// Unsigned integers, by name.
pub(crate) fn integers<T: TryFrom<u64>>(value: &Value, field: &str) -> Result<Vec<T>, Flaw> {
    list(value, field, INTEGER_REMEDY, unsigned)
}

/// Booleans, also as 0 and 1, by name.
pub(crate) fn booleans(value: &Value, field: &str) -> Result<Vec<bool>, Flaw> {
    list(value, field, "write 1 or 0, or true or false", truth)
}

/// Unsigned integers or null, by name.
pub(crate) fn optional_integers(value: &Value, field: &str) -> Result<Vec<Option<u64>>, Flaw> {
    list(value, field, INTEGER_REMEDY, |element| if element.is_null() { Ok(None) } else { unsigned(element).map(Some) })
}

/// Strings, by name.
pub(crate) fn strings(value: &Value, field: &str) -> Result<Vec<String>, Flaw> {
    list(value, field, "write a string", |element| {
        element.as_str().map(str::to_owned).ok_or_else(|| format!("{} where a string is expected", kind(element)))
    })
}

/// Sparse triples as three parallel arrays `i`, `j` and `values_key`, by name; every row must be below `rows`.
pub(crate) fn triples(
    value: &Value,
    field: &str,
    values_key: &str,
    rows: usize,
    columns: usize,
) -> Result<Vec<(u16, u16, u16)>, Flaw> {
    let parts = object(value, field)?;
    known_keys(parts, &["i", "j", values_key]).map_err(|flaw| flaw.within(field))?;
    let part = |key: &str| {
        let name = format!("{field}.{key}");
        let missing =
            || Flaw::new(&name, "missing", "give i, j and a value for every entry, as three arrays of one length");
        integers::<u16>(parts.get(key).ok_or_else(missing)?, &name)
    };
    let (i, j, values) = (part("i")?, part("j")?, part(values_key)?);
    if i.len() != j.len() || i.len() != values.len() {
        return Err(Flaw::new(
            field,
            format!("i, j and {values_key} hold {}, {} and {} values", i.len(), j.len(), values.len()),
            "give i, j and a value for every entry, as three arrays of one length",
        ));
    }
    let bounded = |uids: &[u16], key: &str, limit: usize| match uids.iter().position(|&uid| usize::from(uid) >= limit) {
        Some(place) => Err(Flaw::new(
            format!("{field}.{key}[{place}]"),
            format!("uid {} is not below n = {limit}", uids[place]),
            "remove the entry, or raise n and give every vector that many values",
        )),
        None => Ok(()),
    };
    bounded(&i, "i", rows)?;
    bounded(&j, "j", columns)?;
    Ok(i.into_iter().zip(j).zip(values).map(|((i, j), value)| (i, j, value)).collect())
}
