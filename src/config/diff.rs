//! What differs between two sets of criteria, key by key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use toml::Value;

use super::Config;

/// A key whose value is not the same in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The key with its section: `loss.clip`, `weights.stages[1].temperature`.
    pub key: String,
    /// Its value in the first, where it has one.
    pub old: Option<Value>,
    /// Its value in the second, where it has one.
    pub new: Option<Value>,
}

/// `key: old -> new`
impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "(not set)".to_owned(), Value::to_string);
        write!(formatter, "{}: {} -> {}", self.key, text(&self.old), text(&self.new))
    }
}

impl Config {
    /// Every key whose value in effect differs, by section and key, stages by their place. Empty only where [`Config::digest`] is the same.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let [mut old, mut new] = [self, new].map(|config| {
            let mut leaves = BTreeMap::new();
            // It was made by serde, from types that TOML can hold.
            if let Ok(criteria) = Value::try_from(config.effective()) {
                gather(Vec::new(), criteria, &mut leaves);
            }
            leaves
        });
        let paths: BTreeSet<Path> = old.keys().chain(new.keys()).cloned().collect();
        let differences = paths.into_iter().map(|path| {
            let (old, new) = (old.remove(&path), new.remove(&path));
            Difference { key: name(&path), old, new }
        });
        // As text: it is what the digest is over, and zero is another text than minus zero.
        let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        differences.filter(|difference| text(&difference.old) != text(&difference.new)).collect()
    }
}

/// The way to a value, which orders as a reader would.
type Path = Vec<Step>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    At(usize),
}

/// Takes the values that hold no others, by the way to them.
fn gather(path: Path, value: Value, leaves: &mut BTreeMap<Path, Value>) {
    let inner = |step: Step| path.iter().cloned().chain([step]).collect();
    match value {
        Value::Table(table) if !table.is_empty() => {
            table.into_iter().for_each(|(key, value)| gather(inner(Step::Key(key)), value, leaves));
        }
        Value::Array(array) if !array.is_empty() => {
            array.into_iter().enumerate().for_each(|(at, value)| gather(inner(Step::At(at)), value, leaves));
        }
        leaf => drop(leaves.insert(path, leaf)),
    }
}

fn name(path: &[Step]) -> String {
    path.iter().fold(String::new(), |name, step| match step {
        Step::Key(key) if name.is_empty() => key.clone(),
        Step::Key(key) => format!("{name}.{key}"),
        Step::At(at) => format!("{name}[{at}]"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "x").expect("legal")
    }

    fn lines(old: &str, new: &str) -> Vec<String> {
        config(old).differences(&config(new)).iter().map(Difference::to_string).collect()
    }

    #[test]
    fn keys_are_compared_as_they_are_in_effect() {
        assert_eq!(lines("", "[novelty]\nnearest = 1"), [""; 0], "the default spelt out");
        assert_eq!(lines("[copies]\nbits = 14", "[copies]\nbits = 20"), ["copies.bits: 14 -> 20"], "one key");
        let exact = lines("[loss]\nkind = \"lm\"", "[loss]\nkind = \"exact\"");
        assert!(exact.contains(&"loss.kind: \"lm\" -> \"exact\"".to_owned()), "{exact:?}");
        assert!(exact.contains(&"loss.match: (not set) -> \"number\"".to_owned()), "what it brings: {exact:?}");
        assert!(exact.contains(&"loss.clip: 0.3 -> (not set)".to_owned()), "and what falls away: {exact:?}");
    }

    #[test]
    fn stages_are_compared_by_their_place() {
        let stage = |kind: &str| format!("[[weights.stages]]\nkind = \"{kind}\"\n");
        let eleven = |temperature: &str| {
            stage("normalise").repeat(2)
                + &format!("{}temperature = {temperature}\n", stage("softmax"))
                + &stage("normalise").repeat(9)
        };
        let parsed = |text: &str| toml::from_str::<Config>(text).expect("TOML");
        let found = parsed(&eleven("0.5")).differences(&parsed(&(eleven("1.0") + &stage("normalise"))));
        let keys: Vec<&str> = found.iter().map(|difference| difference.key.as_str()).collect();
        assert_eq!(keys[0], "weights.stages[2].temperature", "{keys:?}");
        assert!(keys[1..].iter().all(|key| key.starts_with("weights.stages[12].")), "the last one is new: {keys:?}");
    }

    #[test]
    fn nothing_differs_only_where_the_digest_is_the_same() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/recipes");
        let recipes = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let recipes = recipes.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        let mut all: Vec<Config> = recipes.map(|path| Config::read(&path).expect("legal")).collect();
        all.extend(
            super::super::LossKind::ALL.map(|(name, _)| config(&format!("[loss]\nkind = \"{name}\"\nvocabulary = 9"))),
        );
        all.push(config(""));
        for old in &all {
            for new in &all {
                let differences = old.differences(new);
                assert_eq!(differences.is_empty(), old.digest() == new.digest(), "{differences:?}");
                let back: Vec<Difference> = new.differences(old);
                let turned =
                    back.into_iter().map(|Difference { key, old, new }| Difference { key, old: new, new: old });
                assert!(turned.eq(differences), "the way back is the same way");
            }
        }
        assert!(all.len() > 12, "only {} criteria were compared", all.len());
    }
}
