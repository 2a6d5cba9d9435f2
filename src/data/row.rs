//! One line: a JSON object's known keys, and what is wrong with them.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Match, Rule};
use crate::{Error, Result};

/// What is wrong with a row, before the place is known.
#[derive(Debug)]
pub(super) struct Fault {
    field: String,
    problem: String,
    remedy: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }

    pub(super) fn at(self, file: &str, line: usize) -> Error {
        Error::Row {
            file: file.to_owned(),
            line,
            field: self.field,
            problem: self.problem,
            remedy: self.remedy.into_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    PromptId,
    TaskId,
    Prompt,
    Miner,
    Hotkey,
    Response,
    Reference,
    Uid,
    Block,
    Embedding,
    Text,
    A,
    B,
    Score,
    Logits,
    Logprobs,
    Tokens,
    Match,
    Pattern,
    Victim,
    Kind,
    Novelty,
    Accuracy,
    Chars,
    CopyEvidence,
    CopyOf,
}

impl Key {
    const ALL: [Self; 26] = [
        Self::PromptId,
        Self::TaskId,
        Self::Prompt,
        Self::Miner,
        Self::Hotkey,
        Self::Response,
        Self::Reference,
        Self::Uid,
        Self::Block,
        Self::Embedding,
        Self::Text,
        Self::A,
        Self::B,
        Self::Score,
        Self::Logits,
        Self::Logprobs,
        Self::Tokens,
        Self::Match,
        Self::Pattern,
        Self::Victim,
        Self::Kind,
        Self::Novelty,
        Self::Accuracy,
        Self::Chars,
        Self::CopyEvidence,
        Self::CopyOf,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PromptId => "prompt_id",
            Self::TaskId => "task_id",
            Self::Prompt => "prompt",
            Self::Miner => "miner",
            Self::Hotkey => "hotkey",
            Self::Response => "response",
            Self::Reference => "reference",
            Self::Uid => "uid",
            Self::Block => "block",
            Self::Embedding => "embedding",
            Self::Text => "text",
            Self::A => "a",
            Self::B => "b",
            Self::Score => "score",
            Self::Logits => "logits",
            Self::Logprobs => "logprobs",
            Self::Tokens => "tokens",
            Self::Match => "match",
            Self::Pattern => "pattern",
            Self::Victim => "victim",
            Self::Kind => "kind",
            Self::Novelty => "novelty",
            Self::Accuracy => "accuracy",
            Self::Chars => "chars",
            Self::CopyEvidence => "copy_evidence",
            Self::CopyOf => "copy_of",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// A JSON value as far as rows need it.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool,
    Integer(i128),
    Float(f64),
    Text(String),
    /// The numbers, or the position of the first item that is none.
    List(Result<Vec<f32>, usize>),
    Object,
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction or an exponent, or too large an integer",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object => "an object",
        }
    }
}

/// The known keys of one line.
#[derive(Debug, Default)]
pub(super) struct Raw {
    values: [Option<Value>; Key::ALL.len()],
    twice: Option<Key>,
}

impl Raw {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            Fault::new(
                "row",
                format!("is not valid UTF-8 at byte {}", error.valid_up_to() + 1),
                "save the file as UTF-8",
            )
        })?;
        let text = text.trim_ascii();
        if !text.starts_with('{') {
            return Err(Fault::new(
                "row",
                "is not a JSON object",
                if text.starts_with('[') {
                    "write one JSON object a line, without a list around them"
                } else {
                    "write one JSON object a line"
                },
            ));
        }
        let current = Cell::new(None);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let parsed = RawSeed { current: &current }.deserialize(&mut deserializer);
        let raw = parsed.and_then(|raw| deserializer.end().map(|()| raw)).map_err(|error| {
            let field = current.get().map_or("row", Key::name);
            syntax_fault(field, text, &error)
        })?;
        if let Some(key) = raw.twice {
            return Err(Fault::new(key.name(), "stands twice in the row", "keep one of the two"));
        }
        Ok(raw)
    }

    fn take(&mut self, key: Key) -> Option<Value> {
        match self.values.get_mut(key as usize)?.take() {
            Some(Value::Null) | None => None,
            value => value,
        }
    }

    pub(super) fn optional_text(&mut self, key: Key) -> Result<Option<String>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(ill_typed(key, &other, "a string")),
        }
    }

    pub(super) fn required_text(&mut self, key: Key) -> Result<String, Fault> {
        self.optional_text(key)?.ok_or_else(|| missing(key))
    }

    fn optional_id(&mut self, key: Key) -> Result<Option<String>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Integer(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(ill_typed(key, &other, "a string or an integer")),
        }
    }

    pub(super) fn id(&mut self, key: Key, alias: Key) -> Result<(String, &'static str), Fault> {
        match (self.optional_id(key)?, self.optional_id(alias)?) {
            (Some(id), None) => Ok((id, key.name())),
            (None, Some(id)) => Ok((id, alias.name())),
            (None, None) => Err(missing(key)),
            (Some(id), Some(other)) if id == other => Ok((id, key.name())),
            (Some(id), Some(other)) => Err(Fault::new(
                alias.name(),
                format!("is {}, but {} is {}", short(&other), key.name(), short(&id)),
                "keep one of the two: they mean the same",
            )),
        }
    }

    pub(super) fn uid(&mut self) -> Result<Option<u16>, Fault> {
        match self.take(Key::Uid) {
            None => Ok(None),
            Some(Value::Integer(number)) => u16::try_from(number).map(Some).map_err(|_| {
                Fault::new(Key::Uid.name(), format!("{number} is not within 0 to 65535"), "give the metagraph's uid")
            }),
            Some(other) => Err(ill_typed(Key::Uid, &other, "an integer")),
        }
    }

    pub(super) fn block(&mut self) -> Result<Option<u64>, Fault> {
        match self.take(Key::Block) {
            None => Ok(None),
            Some(Value::Integer(number)) => u64::try_from(number).map(Some).map_err(|_| {
                Fault::new(Key::Block.name(), format!("{number} is not a block number"), "give an integer from 0 up")
            }),
            Some(other) => Err(ill_typed(Key::Block, &other, "an integer")),
        }
    }

    pub(super) fn optional_number(&mut self, key: Key) -> Result<Option<f64>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(number as f64)),
            Some(Value::Float(number)) => Ok(Some(number)),
            Some(other) => Err(ill_typed(key, &other, "a number")),
        }
    }

    pub(super) fn required_number(&mut self, key: Key) -> Result<f64, Fault> {
        self.optional_number(key)?.ok_or_else(|| missing(key))
    }

    pub(super) fn required_count(&mut self, key: Key) -> Result<u32, Fault> {
        match self.take(key) {
            None => Err(missing(key)),
            Some(Value::Integer(number)) => u32::try_from(number).map_err(|_| {
                Fault::new(key.name(), format!("{number} is not within 0 to {}", u32::MAX), "write a count")
            }),
            Some(other) => Err(ill_typed(key, &other, "an integer")),
        }
    }

    pub(super) fn rule(&mut self) -> Result<Option<Rule>, Fault> {
        let pattern = self.optional_text(Key::Pattern)?;
        let compare = match (self.optional_text(Key::Match)?.as_deref(), &pattern) {
            (None, None) => return Ok(None),
            (Some("regex"), None) => return Err(missing(Key::Pattern)),
            (Some("regex") | None, Some(_)) => Match::Regex,
            (Some("text"), None) => Match::Text,
            (Some("number"), None) => Match::Number,
            (Some("text" | "number"), Some(_)) => {
                let remedy = "set match to \"regex\", or leave the pattern out";
                return Err(Fault::new(Key::Pattern.name(), "stands beside a match that takes none", remedy));
            }
            (Some(other), _) => {
                let problem = format!("is {}, which is not known", short(other));
                return Err(Fault::new(Key::Match.name(), problem, "write text, number or regex"));
            }
        };
        Ok(Some(Rule { compare, pattern }))
    }

    pub(super) fn tokens(&mut self) -> Result<Option<Vec<u32>>, Fault> {
        let wrong = |at: usize| {
            Fault::new(
                format!("{}[{at}]", Key::Tokens.name()),
                "is no token's id",
                "give integers from 0 up, below 2^24",
            )
        };
        // Below 2^24 an f32 holds every integer.
        let id = |(at, number): (usize, &f32)| {
            let legal = number.fract() == 0.0 && (0.0..16_777_216.0).contains(number);
            if legal { Ok(*number as u32) } else { Err(wrong(at)) }
        };
        match self.take(Key::Tokens) {
            None => Ok(None),
            Some(Value::List(Ok(numbers))) => numbers.iter().enumerate().map(id).collect::<Result<_, _>>().map(Some),
            Some(Value::List(Err(at))) => Err(wrong(at)),
            Some(other) => Err(ill_typed(Key::Tokens, &other, "a list of integers")),
        }
    }

    pub(super) fn embedding(&mut self) -> Result<Option<Vec<f32>>, Fault> {
        match self.take(Key::Embedding) {
            None => Ok(None),
            Some(Value::List(Ok(numbers))) => Ok(Some(numbers)),
            Some(Value::List(Err(at))) => Err(Fault::new(
                format!("{}[{at}]", Key::Embedding.name()),
                "is not a finite f32 number",
                "give finite numbers",
            )),
            Some(other) => Err(ill_typed(Key::Embedding, &other, "a list of numbers")),
        }
    }
}

fn ill_typed(key: Key, found: &Value, wanted: &'static str) -> Fault {
    Fault::new(key.name(), format!("is {}, not {wanted}", found.kind()), format!("write {wanted}"))
}

fn syntax_fault(field: &str, text: &str, error: &serde_json::Error) -> Fault {
    let column = error.column();
    let near = text.as_bytes().get(column.saturating_sub(2)..).unwrap_or_default();
    let here = text.as_bytes().get(column.saturating_sub(1)..).unwrap_or_default();
    let not_finite = [b"NaN".as_slice(), b"Infinity", b"nan", b"inf"].iter().any(|word| {
        near.starts_with(word) || here.starts_with(word) || near.get(1..).is_some_and(|n| n.starts_with(word))
    });
    if not_finite {
        return Fault::new(
            field,
            format!("holds a number that is not finite, at column {column}"),
            "JSON has no NaN and no infinity: leave the field out",
        );
    }
    let message = error.to_string();
    let message = message.rfind(" at line ").and_then(|at| message.get(..at)).unwrap_or(&message);
    Fault::new(field, format!("is not valid JSON at column {column}: {message}"), "write one whole JSON object a line")
}

/// Reads one object into a [`Raw`] and tells through `current` which field it was in when it failed.
struct RawSeed<'c> {
    current: &'c Cell<Option<Key>>,
}

impl<'de> DeserializeSeed<'de> for RawSeed<'_> {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RawSeed<'_> {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut raw = Raw::default();
        while let Some(name) = map.next_key::<Name>()? {
            let Some(key) = name.0 else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.current.set(Some(key));
            let value = map.next_value::<Value>()?;
            self.current.set(None);
            if let Some(slot) = raw.values.get_mut(key as usize)
                && slot.replace(value).is_some()
            {
                raw.twice.get_or_insert(key);
            }
        }
        Ok(raw)
    }
}

/// A key, known or not; never kept as text.
struct Name(Option<Key>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }
            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(Key::named(name)))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Bool)
            }
            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Integer(i128::from(number)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Integer(i128::from(number)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Float(number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut numbers = Ok(Vec::new());
                let mut at = 0;
                while let Some(Item(item)) = items.next_element()? {
                    match (&mut numbers, item) {
                        (Ok(list), Some(number)) => list.push(number),
                        (Ok(_), None) => numbers = Err(at),
                        (Err(_), _) => {}
                    }
                    at += 1;
                }
                Ok(Value::List(numbers))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Object)
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// A list's item: a finite f32 number, or `None`.
struct Item(Option<f32>);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number")
            }
            fn visit_unit<E>(self) -> Result<Item, E> {
                Ok(Item(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
                Ok(Item(None))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Item, E> {
                Ok(Item(Some(number as f32)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Item, E> {
                Ok(Item(Some(number as f32)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Item, E> {
                let number = number as f32;
                Ok(Item(number.is_finite().then_some(number)))
            }
            fn visit_str<E>(self, _: &str) -> Result<Item, E> {
                Ok(Item(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Item(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Item(None))
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

pub(super) fn missing(key: Key) -> Fault {
    let name = key.name();
    Fault::new(name, "is missing", format!("add \"{name}\" to the row"))
}

/// A name cut to what a message can hold, quoted.
pub(super) fn short(name: &str) -> String {
    const KEPT: usize = 60;
    let mut rest = name.chars();
    let head: String = rest.by_ref().take(KEPT).collect();
    if rest.next().is_some() { format!("{head:?}...") } else { format!("{head:?}") }
}
