//! What is kept between rounds, and how metagraphs come in. Bugs that validators have had are tests here, named after where they were
//! reported.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tauscore::Error;
use tauscore::data::{Options, Round, Row};
use tauscore::nn::{Embeddings, Rows};
use tauscore::stages::yuma::{ActivityCutoff, Epoch, State};
use tauscore::state::{self, Bounds, Record, Store, Turn};

const WIDTH: usize = 4;
const ENCODER: &str = "exact of the test";

/// What stages remember, as they would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    averages: BTreeMap<String, f64>,
    ratings: BTreeMap<String, Rating>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rating {
    mu: f64,
    sigma: f64,
}

impl Memory {
    fn new(averages: &[(&str, f64)]) -> Self {
        let averages = averages.iter().map(|(hotkey, average)| ((*hotkey).to_owned(), *average)).collect();
        Self { averages, ratings: BTreeMap::new() }
    }
}

/// One prompt that these miners answered, with embeddings of their own.
fn round(number: u64, miners: &[&str]) -> Round {
    let rows = miners.iter().zip(0..).map(|(miner, index)| Row {
        prompt_id: format!("prompt {number}"),
        miner: (*miner).to_owned(),
        response: format!("answer {index} to {number}"),
        block: Some(number * 100 + index),
        embedding: Some(embedding(number, index)),
        ..Row::default()
    });
    Round::from_rows(rows, [], Options::default()).unwrap().0
}

fn embedding(number: u64, index: u64) -> Vec<f32> {
    vec![number as f32, index as f32, -32_768.0, 7.0]
}

fn record_as(store: &Store, round: &Round, subnet: Option<&State>, memory: &impl Serialize) -> Result<Turn, Error> {
    let numbers = round.responses().iter().flat_map(|row| row.embedding.clone().unwrap_or(vec![1.0; WIDTH]));
    let embeddings = Embeddings { width: WIDTH, rows: Rows::Exact(numbers.map(|number| number as i16).collect()) };
    let places: Vec<u32> = (0..round.responses().len() as u32).collect();
    let digest = state::digest(round);
    let record = Record { round, digest, encoder: ENCODER, embeddings: (&embeddings, &places), subnet, forgotten: &[] };
    store.record(record, memory)
}

fn record(store: &Store, round: &Round, memory: &impl Serialize) -> Turn {
    record_as(store, round, None, memory).unwrap()
}

fn now(store: &Store) -> Memory {
    store.memory(store.next().unwrap()).unwrap()
}

fn bank(store: &Store) -> Vec<Round> {
    store.history(store.next().unwrap(), ENCODER).unwrap()
}

/// Who gave the responses of the bank, a list a round.
fn who(bank: &[Round]) -> Vec<Vec<&str>> {
    bank.iter().map(|round| round.miners().iter().map(|miner| miner.hotkey.as_str()).collect()).collect()
}

fn subnet(neurons: &[(&str, &str)]) -> State {
    let n = neurons.len();
    let state = json!({"n": n, "block": 1, "rao_emission": 0, "stake": vec![0; n], "validator_permit": vec![0; n], "last_update": [],
        "block_at_registration": [], "weights": {"i": [], "j": [], "w": []},
        "hotkeys": neurons.iter().map(|neuron| neuron.0).collect::<Vec<_>>(),
        "coldkeys": neurons.iter().map(|neuron| neuron.1).collect::<Vec<_>>()});
    serde_json::from_value(state).unwrap()
}

/// Weights by uid, from what is known by hotkey: the uid is looked up last.
fn by_uid(memory: &Memory, subnet: &State) -> Vec<f64> {
    subnet.hotkeys.iter().map(|hotkey| memory.averages.get(hotkey).copied().unwrap_or(0.0)).collect()
}

#[test]
fn a_round_is_kept_with_all_that_scoring_reads() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!((bank(&store), now(&store)), (vec![], Memory::default()), "a new state knows nothing");
    let first = round(1, &["a", "b"]);
    let mut memory = Memory::new(&[("a", 0.1 + 0.2), ("b", f64::MIN_POSITIVE)]);
    memory.ratings.insert("a".into(), Rating { mu: 25.0, sigma: 25.0 / 3.0 });
    assert_eq!(record(&store, &first, &memory), Turn { number: 1, again: false }, "the first");
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(now(&store), memory, "to the bit");
    let kept = bank(&store);
    assert_eq!(kept.len(), 1, "one round");
    for (kept, row) in kept[0].responses().iter().zip(first.responses()) {
        assert_eq!((&kept.text, kept.block, &kept.embedding), (&row.text, row.block, &row.embedding), "a response");
    }
    assert_eq!(kept[0].prompts()[0].id, "prompt 1", "its prompt");
    let other = store.history(store.next().unwrap(), "another encoder").unwrap();
    assert!(other[0].responses().iter().all(|row| row.embedding.is_none()), "of another encoder: embedded anew");
}

#[test]
fn a_round_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    record(&store, &round(1, &["a", "b"]), &Memory::new(&[("a", 0.5), ("b", 0.25)]));
    let second = round(2, &["a", "c"]);
    record(&store, &second, &Memory::new(&[("a", 0.75), ("c", 1.0)]));

    let turn = store.turn(&state::digest(&second)).unwrap();
    assert_eq!(turn, Turn { number: 2, again: true }, "it is known again");
    let before: Memory = store.memory(turn).unwrap();
    assert_eq!(before, Memory::new(&[("a", 0.5), ("b", 0.25)]), "it is scored from what was known before it");
    assert_eq!(store.history(turn, ENCODER).unwrap().len(), 1, "and not against itself");
    // Judged anew, by other criteria: it takes its own place.
    record(&store, &second, &Memory::new(&[("a", 0.8), ("b", 0.2)]));
    assert_eq!(now(&store), Memory::new(&[("a", 0.8), ("b", 0.2)]), "c has what it had before: nothing");
    assert_eq!(store.memory::<Memory>(turn).unwrap(), before, "and what was before is as it was");
    assert_eq!(who(&bank(&store)), [["a", "b"], ["a", "c"]], "twice in the bank it is not");

    let shuffled = {
        let mut rows: Vec<Row> = Vec::new();
        for (miner, index) in [("c", 1), ("a", 0)] {
            rows.push(Row {
                prompt_id: "prompt 2".into(),
                miner: miner.into(),
                response: format!("answer {index} to 2"),
                block: Some(200 + index),
                embedding: Some(embedding(2, index)),
                reference: Some("found later".into()),
                ..Row::default()
            });
        }
        Round::from_rows(rows, [], Options::default()).unwrap().0
    };
    assert_eq!(
        state::digest(&shuffled),
        state::digest(&second),
        "the file's order and references do not make another round"
    );
    assert_ne!(state::digest(&round(2, &["a", "b"])), state::digest(&second), "who answered does");

    let late = store.turn(&state::digest(&round(1, &["a", "b"]))).unwrap_err().to_string();
    assert!(late.contains("number 1 of 2"), "what was known before an older round is gone: {late}");
    let error = record_as(&store, &round(1, &["a", "b"]), None, &Memory::default()).unwrap_err();
    assert!(matches!(error, Error::Usage { .. }), "{error}");
    assert_eq!(bank(&store).len(), 2, "nothing was added");
}

#[test]
fn the_bank_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let bounded = |rounds, bytes| Store::open(folder.path()).unwrap().with_bounds(Bounds { rounds, bytes });
    let prompts = |store: &Store, turn: Turn| {
        let history = store.history(turn, ENCODER).unwrap();
        history.iter().map(|round| round.prompts()[0].id.clone()).collect::<Vec<_>>()
    };
    let store = bounded(3, u64::MAX);
    for number in 1..=10 {
        record(&store, &round(number, &["a"]), &Memory::default());
    }
    assert_eq!(
        prompts(&store, store.next().unwrap()),
        ["prompt 8", "prompt 9", "prompt 10"],
        "the oldest of them first"
    );
    let again = store.turn(&state::digest(&round(10, &["a"]))).unwrap();
    assert_eq!(prompts(&store, again), ["prompt 7", "prompt 8", "prompt 9"], "the last one can be scored again");
    let size = store.size().unwrap();
    assert_eq!((size.recorded, size.rounds, size.responses), (10, 4, 4), "{size:?}");
    drop(store);
    let store = bounded(100, size.bytes / 2 + 20);
    record(&store, &round(11, &["a"]), &Memory::default());
    assert_eq!(prompts(&store, store.next().unwrap()), ["prompt 10", "prompt 11"], "by bytes");
    drop(store);
    let store = bounded(0, 0);
    record(&store, &round(12, &["a"]), &Memory::default());
    assert_eq!(prompts(&store, store.next().unwrap()), ["prompt 12"], "the newest stays");
    assert_eq!(store.size().unwrap().rounds, 2, "and one more");
    assert!(store.turn(&state::digest(&round(5, &["a"]))).is_err(), "a round that left the bank still counts once");
}

#[test]
fn bitt_audio_1_weights_go_to_uids_and_not_to_places_in_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    // Three of six answered, neither the first nor in order.
    record(&store, &round(1, &["f", "b", "d"]), &Memory::new(&[("f", 0.6), ("b", 0.2), ("d", 0.4)]));
    let subnet = subnet(&[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", ""), ("f", "")]);
    assert_eq!(by_uid(&now(&store), &subnet), [0.0, 0.2, 0.0, 0.4, 0.0, 0.6], "each at his uid");
}

#[test]
fn gittensor_1606_1607_1629_a_resized_metagraph_moves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let memory = Memory::new(&[("a", 0.1), ("b", 0.2), ("c", 0.3)]);
    let small = subnet(&[("a", "1"), ("b", "2"), ("c", "3")]);
    record_as(&store, &round(1, &["a", "b", "c"]), Some(&small), &memory).unwrap();
    let grown = subnet(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")]);
    assert_eq!(by_uid(&now(&store), &grown), [0.1, 0.2, 0.3, 0.0, 0.0], "grown");
    let shrunk = subnet(&[("c", "3"), ("a", "1")]);
    assert_eq!(by_uid(&now(&store), &shrunk), [0.3, 0.1], "shrunk, and in another order");
    record_as(&store, &round(2, &["c"]), Some(&shrunk), &Memory::new(&[("c", 0.9)])).unwrap();
    assert_eq!(by_uid(&now(&store), &grown), [0.1, 0.2, 0.9, 0.0, 0.0], "b, who was gone for a while, is as he was");
}

#[test]
fn validators_35_who_was_not_asked_keeps_what_he_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    record(&store, &round(1, &["a", "b"]), &Memory::new(&[("a", 0.5), ("b", 0.25)]));
    record(&store, &round(2, &["a"]), &Memory::new(&[("a", 0.75)]));
    assert_eq!(now(&store), Memory::new(&[("a", 0.75), ("b", 0.25)]), "b was not asked");
    // A policy that takes from him says so.
    record(&store, &round(3, &["a"]), &Memory::new(&[("a", 0.75), ("b", 0.0)]));
    assert_eq!(now(&store), Memory::new(&[("a", 0.75), ("b", 0.0)]), "zero by name");
}

#[test]
fn trajectory_rl_186_subtensor_1787_who_takes_over_a_uid_inherits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let before = subnet(&[("a", "1"), ("dead", "2"), ("c", "3")]);
    let memory = Memory::new(&[("a", 0.1), ("dead", 0.8), ("c", 0.1)]);
    record_as(&store, &round(1, &["a", "dead", "c"]), Some(&before), &memory).unwrap();
    let after = subnet(&[("a", "1"), ("new", "9"), ("c", "3")]);
    assert_eq!(by_uid(&now(&store), &after), [0.1, 0.0, 0.1], "uid 1 has a new owner, who has earned nothing");
    assert_eq!(who(&bank(&store)), [["a", "dead", "c"]], "nor is he the author of what his uid said");
    let coldkeys = store.coldkeys().unwrap();
    assert!(!coldkeys.iter().any(|pair| pair.0 == "new"), "nothing is known of him: {coldkeys:?}");
}

#[test]
fn storage_subnet_145_gittensor_1188_nan_is_refused_by_name_and_never_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let good = Memory::new(&[("a", 0.5), ("b", 0.25)]);
    record(&store, &round(1, &["a", "b"]), &good);
    let mut rated = good.clone();
    rated.ratings.insert("b".into(), Rating { mu: 25.0, sigma: f64::NEG_INFINITY });
    for (memory, names) in [(Memory::new(&[("a", 0.5), ("b", f64::NAN)]), "averages of b"), (rated, "ratings of b")] {
        let error = record_as(&store, &round(2, &["a", "b"]), None, &memory).unwrap_err();
        assert_eq!(error.to_string(), format!("{names}: not a finite number"), "which, and whose");
        assert!(error.remedy().is_some(), "what to do");
    }
    assert_eq!((now(&store), bank(&store).len()), (good, 1), "nothing of that round is there");
}

#[test]
fn a_hotkey_swap_is_said_and_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let before = subnet(&[("old", "cold"), ("b", "other"), ("c", "other")]);
    let mut memory = Memory::new(&[("old", 0.9), ("b", 0.1)]);
    memory.ratings.insert("old".into(), Rating { mu: 30.0, sigma: 2.0 });
    record_as(&store, &round(1, &["old", "b"]), Some(&before), &memory).unwrap();
    // Before anybody says so, the new name is a stranger of the same coldkey.
    let after = subnet(&[("new", "cold"), ("b", "other"), ("c", "other")]);
    record_as(&store, &round(2, &["new", "b"]), Some(&after), &Memory::new(&[("new", 0.01)])).unwrap();
    assert_eq!(by_uid(&now(&store), &after)[0], 0.01, "one coldkey does not make two hotkeys one miner");

    for (from, to, why) in [
        ("nobody", "x", "nothing is known of nobody"),
        ("old", "b", "old is of coldkey cold, and b of other"),
        ("b", "new", "b is of coldkey other, and new of cold"),
    ] {
        let error = store.swap(from, to).unwrap_err().to_string();
        assert!(error.contains(why), "{from} to {to}: {error}");
    }
    store.swap("old", "new").unwrap();
    let known = now(&store);
    assert_eq!(known.averages, Memory::new(&[("new", 0.9), ("b", 0.1)]).averages, "the old record goes on");
    assert_eq!(known.ratings["new"], Rating { mu: 30.0, sigma: 2.0 }, "the rating, too");
    assert_eq!(who(&bank(&store)), [["new", "b"], ["new", "b"]], "and what he said is his own");
    assert_eq!(
        store.coldkeys().unwrap(),
        [("b", "other"), ("c", "other"), ("new", "cold")].map(|(a, b)| (a.to_owned(), b.to_owned())),
        "the old name is gone"
    );
    assert!(store.swap("old", "new").is_err(), "it happens once");
}

#[test]
fn two_miners_of_one_round_are_never_made_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    record(&store, &round(1, &["a", "b"]), &Memory::new(&[("a", 0.9), ("b", 0.1)]));
    let error = store.swap("a", "b").unwrap_err().to_string();
    assert!(error.contains("both answered in round 1"), "{error}");
    assert_eq!(now(&store), Memory::new(&[("a", 0.9), ("b", 0.1)]), "nothing changed");
}

#[test]
fn two_processes_at_once_get_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Usage { .. }) && error.to_string().contains("in use by another process"),
        "{error}"
    );
    drop(store);
    Store::open(folder.path()).unwrap();
}

#[test]
fn a_damaged_file_is_repaired_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for number in 1..=5 {
        record(&store, &round(number, &["a", "b"]), &Memory::new(&[("a", number as f64)]));
    }
    drop(store);
    let path = folder.path().join(state::FILE);
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    let mut look = |bytes: &[u8], how: &str| {
        fs::write(&path, bytes).unwrap();
        match Store::open(folder.path()) {
            Err(error) => {
                let named = matches!(error, Error::File { .. }) && error.to_string().contains(state::FILE);
                assert!(named, "{how}: {error}");
                refused += 1;
            }
            // Damage that no data stand in.
            Ok(store) => {
                assert_eq!(
                    (bank(&store).len(), now(&store).averages["a"]),
                    (5, 5.0),
                    "{how}: opened, and something is gone"
                );
            }
        }
    };
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        look(&whole[..length], &format!("cut to {length} bytes"));
    }
    for place in (0..whole.len()).step_by((whole.len() / 150) | 1) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        look(&bytes, &format!("byte {place} changed"));
    }
    look(b"{\"step\": 3, \"scores\": [0.5]}", "a file of somebody else");
    assert!(refused > 40, "only {refused} were refused");
}

#[test]
fn another_schema_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let database = redb::Database::open(folder.path().join(state::FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("schema", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("schema: 2, and this build reads 1"), "{error}");
}

// Kills.

/// The bank of [`writer`].
const BOUNDS: Bounds = Bounds { rounds: 4, bytes: u64::MAX };

/// The folder that [`writer`] writes to.
const WRITES: &str = "TAUSCORE_TEST_STATE";

fn written(number: u64) -> (Round, Memory) {
    // Kilobytes of text, so that a transaction takes many pages.
    let rows = ["a", "b", "c"].into_iter().zip(0..).map(|(miner, index)| Row {
        prompt_id: format!("prompt {number}"),
        miner: miner.to_owned(),
        response: format!("{number} {index} ").repeat(500 * (1 + number as usize % 7)),
        block: Some(number),
        embedding: Some(embedding(number, index)),
        ..Row::default()
    });
    let round = Round::from_rows(rows, [], Options::default()).unwrap().0;
    (round, Memory::new(&[("a", number as f64 / 3.0), ("b", 1.0 / number as f64)]))
}

/// It records rounds without end, and says which once they are on the disk.
#[test]
#[ignore = "it is what the next test starts and kills"]
fn writer() {
    use std::io::Write;
    let folder = std::env::var_os(WRITES).unwrap();
    let store = Store::open(Path::new(&folder)).unwrap().with_bounds(BOUNDS);
    let mut out = std::io::stdout();
    loop {
        let number = store.next().unwrap().number;
        let (round, memory) = written(number);
        record(&store, &round, &memory);
        writeln!(out, "\nrecorded {number}").and_then(|()| out.flush()).unwrap();
    }
}

/// Holds a state to what [`writer`] must have left, and gives how many rounds that are.
fn whole(folder: &Path, acknowledged: u64) -> u64 {
    if !folder.join(state::FILE).exists() {
        assert_eq!(acknowledged, 0, "the state is gone");
        return 0;
    }
    let store = Store::open(folder).unwrap().with_bounds(BOUNDS);
    let size = store.size().unwrap();
    let (recorded, held) = (size.recorded, size.recorded.min(BOUNDS.rounds));
    assert!(recorded >= acknowledged, "{acknowledged} were acknowledged, {recorded} are there");
    assert_eq!(size.rounds, recorded.min(BOUNDS.rounds + 1), "rounds in the bank");
    if recorded > 0 {
        assert_eq!(now(&store), written(recorded).1, "averages of round {recorded}");
        let turn = store.turn(&state::digest(&written(recorded).0)).unwrap();
        assert_eq!(turn, Turn { number: recorded, again: true }, "the last one is known");
    }
    for number in 1..recorded {
        assert!(
            store.turn(&state::digest(&written(number).0)).is_err(),
            "round {number} of {recorded} could count again"
        );
    }
    assert_eq!(bank(&store).len() as u64, held, "rounds to compare with");
    for (kept, number) in bank(&store).iter().zip(recorded + 1 - held..) {
        let parts = |round: &Round| {
            let rows = round.responses().iter();
            rows.map(|row| (row.miner, row.text.clone(), row.block, row.embedding.clone())).collect::<Vec<_>>()
        };
        assert_eq!(parts(kept), parts(&written(number).0), "round {number}");
    }
    recorded
}

#[test]
fn two_hundred_kills_lose_nothing_acknowledged_and_corrupt_nothing() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: u64| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) % limit
    };
    let (mut folder, mut acknowledged, mut writing) = (tempfile::tempdir().unwrap(), 0, 0);
    for kill in 0..200 {
        if kill % 25 == 0 {
            // A new state: kills while it is made, too.
            (folder, acknowledged) = (tempfile::tempdir().unwrap(), 0);
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(WRITES, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(below(if kill % 2 == 0 { 60_000 } else { 20_000 })));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        // The last line may be cut short by the kill.
        let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        if let Some(last) = lines.filter_map(|line| line.trim().strip_prefix("recorded ")?.parse().ok()).next_back() {
            (acknowledged, writing) = (last, writing + 1);
        }
        acknowledged = whole(folder.path(), acknowledged);
    }
    assert!(writing > 50, "only {writing} of 200 kills came while rounds were recorded: too early to say anything");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the state is in the folder");
}

// Metagraphs.

fn dump(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/metagraph").join(name)
}

fn imported(name: &str) -> State {
    State::read(&dump(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a metagraph that is not whole is refused for.
fn refusal(value: &Value) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metagraph.json");
    fs::write(&path, value.to_string()).unwrap();
    match State::read(&path) {
        Err(Error::File { file, field, problem, remedy }) => {
            assert!(Path::new(&file) == path && !remedy.is_empty(), "file and remedy");
            (field, problem)
        }
        other => panic!("{value}: {other:?}"),
    }
}

fn rows(state: &State) -> Vec<Vec<(u16, u16)>> {
    let mut rows: Vec<Vec<(u16, u16)>> = (0..state.n()).map(|uid| state.weights.row(uid).collect()).collect();
    rows.iter_mut().for_each(|row| row.sort_unstable());
    rows
}

#[test]
fn the_sdks_own_objects_come_in_as_the_chain_has_them() {
    let weights = [
        vec![(2, 65_535), (3, 40_001), (4, 7), (5, 1)],
        vec![(2, 65_534), (3, 65_535), (5, 12_345)],
        vec![],
        vec![],
        vec![],
        vec![],
    ];
    for name in ["v10.json", "v10_arrays.json", "v11.json", "v11_pairs.json"] {
        let state = imported(name);
        assert_eq!((state.netuid, state.mechid, state.block, state.n()), (7, 0, 5_000_000, 6), "{name}");
        assert_eq!(state.last_mechanism_step_block, 4_999_700, "{name}");
        assert_eq!(
            state.stake,
            [40_960_500_000_000, 20_480_250_000_000, 0, 16_125_000_000, 0, 1_000_000_000],
            "{name}"
        );
        assert_eq!(state.tao_stake, None, "{name}: it is in the total");
        assert_eq!(state.rao_emission, 169_375_000_000, "{name}: what the neurons earned last");
        assert_eq!(state.stored_consensus, [0, 0, 65_535, 40_001, 17, 1], "{name}: of floats integers again");
        assert_eq!(state.validator_permit, [true, true, false, false, false, false], "{name}");
        assert_eq!(state.last_update, [4_999_990, 4_999_001, 0, 12, 0, 0], "{name}");
        assert_eq!(state.block_at_registration, [100, 200, 300, 4_999_999, 5, 6], "{name}");
        assert_eq!(state.coldkeys, ["cold_a", "cold_b", "cold_c", "cold_c", "cold_d", "cold_e"], "{name}");
        assert_eq!(rows(&state), weights, "{name}: rows of f32 or of fractions are the chain's integers again");
        let bonds: Vec<_> = state.bonds.entries().collect();
        assert_eq!(bonds, [(0, 2, 60_000), (0, 3, 1), (1, 2, 5_535), (1, 3, 65_534), (1, 4, 65_535)], "{name}");
        let hyper = state.hyper;
        assert_eq!((hyper.kappa, hyper.alpha_low, hyper.alpha_high), (32_767, 45_875, 58_982), "{name}");
        assert_eq!((hyper.bonds_moving_average, hyper.tempo, hyper.liquid_alpha), (900_000, 360, true), "{name}");
        assert_eq!(hyper.activity_cutoff, ActivityCutoff::Blocks(5_000), "{name}");
        assert_eq!((hyper.max_allowed_validators, hyper.owner_uid), (64, Some(5)), "{name}");
        assert_eq!((hyper.min_allowed_weights, hyper.max_weights_limit), (Some(3), Some(21_845)), "{name}");
    }
    // The order of submission stays where the chain's own pairs do.
    for name in ["v10.json", "v11.json", "v11_pairs.json"] {
        assert_eq!(
            imported(name).weights.row(1).collect::<Vec<_>>(),
            [(5, 12_345), (3, 65_535), (2, 65_534)],
            "{name}"
        );
    }
    let (ten, eleven) = (imported("v10.json"), imported("v11_pairs.json"));
    assert_eq!(ten, eleven, "both SDKs tell the same");
    assert_eq!(imported("v11.json"), eleven, "fractions are the chain's integers again");
    let without = imported("btcli_11.json");
    assert!(without.weights.is_empty() && without.bonds.is_empty(), "btcli prints no matrices");
    let mut fields = eleven.clone().into_fields();
    (fields.weights, fields.bonds) = (without.weights.clone(), without.bonds.clone());
    assert_eq!(State::new(fields).unwrap(), without, "and all else alike");
    assert!(Epoch::new(&eleven).incentive.iter().any(|incentive| *incentive > 0), "it is a whole subnet");
}

#[test]
fn matrices_may_be_maps_of_maps() {
    // As `client.weights.weights` and `.bonds` give them, dumped by hand.
    let mut by_hand: Value = serde_json::from_str(&fs::read_to_string(dump("v11.json")).unwrap()).unwrap();
    for key in ["weights", "bonds"] {
        for row in by_hand[key].as_object_mut().unwrap().values_mut() {
            let pairs = row.as_array().unwrap().iter();
            *row = pairs.map(|pair| (pair[0].to_string(), pair[1].clone())).collect();
        }
    }
    let (state, right) = (serde_json::from_value::<State>(by_hand).unwrap(), imported("v11.json"));
    assert_eq!((rows(&state), &state.bonds), (rows(&right), &right.bonds), "the same numbers");
    assert_eq!(
        state.weights.row(1).map(|entry| entry.0).collect::<Vec<_>>(),
        [2, 3, 5],
        "by uid: no other order is known"
    );
}

#[test]
fn what_an_import_writes_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["v10.json", "v11.json", "btcli_11.json"] {
        let state = imported(name);
        for file in ["state.json", "state.json.gz"] {
            let path = folder.path().join(file);
            state.write(&path).unwrap();
            assert_eq!(State::read(&path).unwrap(), state, "{name} as {file}");
        }
    }
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/yuma/tiny_agree_yuma2.json.gz");
    let state = State::read(&vectors).unwrap();
    assert!(state.n() > 0 && !state.weights.is_empty(), "the first epoch of a recording");
}

#[test]
fn a_lite_synchronisation_is_a_metagraph_without_weights() {
    let lite = imported("v10_lite.json");
    assert!(lite.weights.is_empty() && lite.bonds.is_empty(), "W and B are not there");
    assert_eq!((lite.n(), lite.hotkeys[3].as_str(), lite.stake[3]), (6, "hotkey_3", 16_125_000_000), "all else is");
    // As somebody dumps it by hand: W of no dimension to speak of.
    let mut by_hand: Value = serde_json::from_str(&fs::read_to_string(dump("v10_lite.json")).unwrap()).unwrap();
    for empty in [json!([]), json!(null), json!([0.0]), json!(0.0)] {
        by_hand["W"] = empty.clone();
        let state: State = serde_json::from_value(by_hand.clone()).unwrap();
        assert!(state.weights.is_empty(), "{empty}");
    }
}

#[test]
fn data_universe_883_numbers_come_in_however_the_sdk_wraps_them() {
    let right = imported("v10.json");
    let mut dump: Value = serde_json::from_str(&fs::read_to_string(dump("v10.json")).unwrap()).unwrap();
    for (key, wrapped) in
        [("n", json!([6])), ("block", json!([[5_000_000]])), ("netuid", json!([7])), ("netuid", json!("7"))]
    {
        dump[key] = wrapped;
        let state: State = serde_json::from_value(dump.clone()).unwrap();
        assert_eq!(state, right, "{key}: {}", dump[key]);
    }
    let mut record: Value = serde_json::from_str(&fs::read_to_string(self::dump("btcli_11.json")).unwrap()).unwrap();
    let right: State = serde_json::from_value(record.clone()).unwrap();
    let balances: Vec<Value> = right.stake.iter().map(|rao| json!({"rao": rao, "netuid": 7})).collect();
    record["total_stake"] = json!(balances);
    assert_eq!(serde_json::from_value::<State>(record.clone()).unwrap(), right, "balances");
    assert_eq!(serde_json::from_value::<State>(json!({"metagraph": record})).unwrap(), right, "in a wrapper");
}

#[test]
fn metagraphs_that_do_not_fit_are_refused_by_field() {
    let read = |name: &str| serde_json::from_str::<Value>(&fs::read_to_string(dump(name)).unwrap()).unwrap();
    let (ten, eleven, cli) = (read("v10.json"), read("v11.json"), read("btcli_11.json"));
    let arrays = read("v10_arrays.json");
    let with = |base: &Value, path: &str, value: Value| {
        let mut changed = base.clone();
        *changed.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        changed
    };
    assert_eq!(refusal(&read("v10_unsynchronised.json")).0, "S", "nothing is there before the first synchronisation");
    for (value, field, problem) in [
        (with(&ten, "/S/2", json!(-1.0)), "S[2]", "not a number from 0 up"),
        (with(&ten, "/S/2", json!(1e12)), "S[2]", "64 bits"),
        (with(&ten, "/n", json!(5)), "n", "6 stakes"),
        (with(&ten, "/uids/1", json!(4)), "uids[1]", "uid 1 is next"),
        (with(&ten, "/hotkeys/1", json!("hotkey_0")), "hotkeys[1]", "already that of uid 0"),
        (with(&ten, "/hotkeys", json!(["a"])), "hotkeys", "1 values for n = 6"),
        (with(&ten, "/hparams/kappa", json!("half")), "kappa", "not an integer"),
        (with(&ten, "/neurons/0/weights/0", json!([2])), "weights[0]", "no pair"),
        (with(&ten, "/neurons/0/weights/0", json!([9, 1])), "weights.j[0]", "uid 9 is not below"),
        (with(&arrays, "/W/3", json!([0.5])), "weights[3]", "this one of 1 numbers"),
        (with(&arrays, "/W/0/2", json!("x")), "weights[0]", "not a number"),
        (with(&arrays, "/B/0/2", json!(65_536.0)), "bonds[0]", "above 65535"),
        (with(&eleven, "/neurons/4/uid", json!(5)), "neurons[4].uid", "uid 4 is next"),
        (with(&eleven, "/neurons/4/total_stake", json!("many")), "neurons[4].total_stake", "not an integer"),
        (with(&eleven, "/weights/0", json!({"x": 0.5})), "weights[0]", "x is no uid"),
        (with(&cli, "/consensus/2", json!(-3)), "consensus[2]", "negative"),
        (with(&cli, "/validator_permit", json!(null)), "validator_permit", "missing"),
        (with(&cli, "/block", json!(null)), "block", "missing"),
        (json!([{"uid": 0, "hotkey": "a", "total_stake": 1}]), "block", "missing"),
        (json!({"epochs": [{}]}), "epochs[0].in", "missing"),
        (json!({"something": 1}), "block", "missing"),
    ] {
        let (found, what) = refusal(&value);
        assert!(found == field && what.contains(problem), "{field} ({problem}): {found}: {what}");
    }
}
