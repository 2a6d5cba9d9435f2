//! The record: whatever is done to a ledger is found and named, and no kill loses what was acknowledged.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use borsh::BorshDeserialize;
use common::ledgers::{self, HEADER, PLACE, frame};
use common::subnets::{self, Limits};
use rayon::prelude::*;
use serde_json::Value;
use tauscore::Error;
use tauscore::config::Config;
use tauscore::device::Noise;
use tauscore::ledger::{
    Body, CriteriaChanged, Demands, Digest, Entry, Epoch, Ledger, Place, Proof, Round, Verified, prove, verify,
};
use tauscore::stages::weights::Memory;
use tauscore::stages::yuma;

fn check(path: &Path) -> Verified {
    verify(path, &Demands::default(), |_| {}).unwrap()
}

/// A ledger of small rounds in a folder of its own.
fn ledger(rounds: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.ledger");
    ledgers::append(&mut Ledger::open(&path).unwrap(), &Config::default(), 1..=rounds, 3, 2);
    (folder, path)
}

/// Where each entry's frame lies.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut frames, mut at) = (Vec::new(), HEADER);
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        frames.push(at..at + 4 + length + 8);
        at += 4 + length + 8;
    }
    frames
}

/// What verifying says of other bytes: the entries that findings name, or an error.
fn findings(path: &Path, bytes: &[u8]) -> Vec<(u64, String)> {
    fs::write(path, bytes).unwrap();
    match verify(path, &Demands::default(), |_| {}) {
        Ok(verified) => verified.findings.into_iter().map(|finding| (finding.entry, finding.to_string())).collect(),
        Err(error @ Error::File { .. }) => vec![(0, error.to_string())],
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_byte_that_is_flipped_dropped_doubled_or_swapped_is_found_and_its_entry_named() {
    let (_folder, path) = ledger(3);
    let whole = fs::read(&path).unwrap();
    assert_eq!(check(&path).findings, [], "nothing is wrong with it");
    let frames = frames(&whole);
    assert_eq!(frames.len(), 3, "three entries");
    (0..whole.len()).into_par_iter().for_each(|at| {
        let other = path.with_extension(at.to_string());
        let owner = frames.iter().position(|frame| frame.contains(&at)).map_or(0, |entry| entry as u64 + 1);
        let mut changed = Vec::new();
        for mask in [1, 1 << (at % 8), 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            changed.push(("flipped", bytes));
        }
        let mut bytes = whole.clone();
        bytes.remove(at);
        changed.push(("dropped", bytes));
        let mut bytes = whole.clone();
        bytes.insert(at, whole[at]);
        changed.push(("doubled", bytes));
        if at > 0 && whole[at] != whole[at - 1] {
            let mut bytes = whole.clone();
            bytes.swap(at, at - 1);
            changed.push(("swapped", bytes));
        }
        for (what, bytes) in changed {
            let found = findings(&other, &bytes);
            assert!(!found.is_empty(), "byte {at} {what}: nothing was found");
            if what == "flipped" {
                let named = found.iter().any(|(entry, text)| *entry == owner && !text.is_empty());
                assert!(named, "byte {at} of entry {owner} {what}: {found:?}");
            }
        }
        fs::remove_file(other).unwrap();
    });
}

#[test]
fn every_entry_that_is_dropped_doubled_or_swapped_is_found() {
    let (_folder, path) = ledger(5);
    let whole = fs::read(&path).unwrap();
    let frames = frames(&whole);
    let other = path.with_extension("other");
    let joined = |order: &[usize]| {
        let parts = order.iter().map(|entry| &whole[frames[*entry].clone()]);
        [&whole[..HEADER]].into_iter().chain(parts).collect::<Vec<_>>().concat()
    };
    assert_eq!(findings(&other, &joined(&[0, 1, 2, 3, 4])), [], "as it was");
    for entry in 0..5 {
        let mut order: Vec<usize> = (0..5).collect();
        order.remove(entry);
        assert!(!findings(&other, &joined(&order)).is_empty(), "{entry} dropped");
        let mut order: Vec<usize> = (0..5).collect();
        order.insert(entry, entry);
        assert!(!findings(&other, &joined(&order)).is_empty(), "{entry} doubled");
        for with in 0..entry {
            let mut order: Vec<usize> = (0..5).collect();
            order.swap(entry, with);
            let found = findings(&other, &joined(&order));
            let named = |number: u64| found.iter().any(|(entry, text)| *entry == number && text.contains("number"));
            assert!(named(entry as u64 + 1) && named(with as u64 + 1), "{entry} and {with} swapped: {found:?}");
        }
    }
}

#[test]
fn samples_of_a_large_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.ledger");
    ledgers::write(&path, &Config::default(), 300, 16, 8);
    let whole = fs::read(&path).unwrap();
    let frames = frames(&whole);
    let mut noise = Noise::new(11);
    let other = path.with_extension("other");
    for _ in 0..200 {
        let at = noise.below(whole.len() as u32) as usize;
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << noise.below(8);
        let owner = frames.iter().position(|frame| frame.contains(&at)).map_or(0, |entry| entry as u64 + 1);
        let found = findings(&other, &bytes);
        assert!(found.iter().any(|(entry, _)| *entry == owner), "byte {at} of entry {owner}: {found:?}");
    }
}

/// What is found when somebody changes an entry and keeps its length and its check in order.
fn forged(change: impl Fn(&mut Entry)) -> Vec<String> {
    let (_folder, path) = ledger(3);
    let whole = fs::read(&path).unwrap();
    let frames = frames(&whole);
    let second = &whole[frames[1].clone()];
    let mut entry = Entry::try_from_slice(&second[4..second.len() - 8]).unwrap();
    assert_eq!(frame(&entry), second, "the test writes frames as the ledger does");
    change(&mut entry);
    let bytes = [&whole[..frames[1].start], &frame(&entry), &whole[frames[1].end..]].concat();
    findings(&path, &bytes).into_iter().map(|(_, text)| text).collect()
}

fn of_round(change: impl Fn(&mut Round)) -> Vec<String> {
    forged(|entry| match &mut entry.body {
        Body::Round(round) => change(round),
        Body::CriteriaChanged(_) => panic!("it is a round"),
    })
}

#[test]
fn forgeries_that_keep_lengths_and_checks_are_named_by_what_they_change() {
    let has = |found: &[String], text: &str| {
        assert!(found.iter().any(|finding| finding.contains(text)), "{text:?} is not in {found:?}");
    };
    has(&of_round(|round| round.table.answers[3].score ^= 1), "entry 2: scores: expected");
    has(&of_round(|round| round.table.answers[3].score ^= 1), "entry 2: body: expected");
    has(&of_round(|round| round.table.answers.swap(0, 1)), "entry 2: scores: expected");
    has(&of_round(|round| round.texts.swap(0, 1)), "entry 2: responses: expected");
    has(&of_round(|round| round.texts.truncate(5)), "entry 2: texts: expected 6 of them, found 5");
    has(&of_round(|round| round.weights[1] ^= 1), "entry 2: weight of 5Miner00001: expected");
    has(&of_round(|round| round.weights[1] ^= 1), "entry 2: weights: expected");
    has(&of_round(|round| round.weights.swap(0, 2)), "entry 2: weight of 5Miner00000: expected");
    has(&of_round(|round| round.step = 65_535), "entry 2: step: expected 132, found 65535");
    has(
        &of_round(|round| round.criteria = Some(Config::default().to_toml())),
        "entry 2: criteria: expected those in force",
    );
    has(&forged(|entry| entry.head.criteria.0[0] ^= 1), "entry 2: criteria: expected");
    has(&forged(|entry| entry.head.netuid = 8), "entry 2: subnet: expected 7.0, found 8.0");
    has(&forged(|entry| entry.head.number = 4), "entry 2: number: expected 2, found 4");
    has(&forged(|entry| entry.head.block += 1), "entry 3: previous: expected");
    has(&forged(|entry| entry.head.previous.0[31] ^= 1), "entry 2: previous: expected");
}

#[test]
fn a_forger_who_keeps_the_checks_in_order_is_found_at_every_byte() {
    let (_folder, path) = ledger(3);
    let whole = fs::read(&path).unwrap();
    let frames = frames(&whole);
    let entry = frames[1].start + 4..frames[1].end - 8;
    entry.into_par_iter().for_each(|at| {
        let other = path.with_extension(at.to_string());
        for mask in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            let (start, end) = (frames[1].start, frames[1].end - 8);
            let check = blake3::hash(&bytes[start..end]);
            bytes[end..end + 8].copy_from_slice(&check.as_bytes()[..8]);
            let found = findings(&other, &bytes);
            let named = found.iter().any(|(entry, _)| [2, 3].contains(entry));
            assert!(named, "byte {at}: {found:?}");
        }
        fs::remove_file(other).unwrap();
    });
}

/// Appends a body to a ledger of one round and tells what is found then.
fn appended(criteria: &Config, place: Place, body: Body) -> Vec<String> {
    let (_folder, path) = ledger(1);
    Ledger::open(&path).unwrap().append(place, ledgers::digest(criteria), body, None).unwrap();
    check(&path).findings.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_validator_records_wrongly_himself_is_found_by_replaying_it() {
    let config = Config::default();
    let place = Place { block: 200, ..PLACE };
    let round = || ledgers::round(&config, 2, 3, 2, &Memory::default()).0;
    let good = Body::Round(Box::new(round()));
    assert!(appended(&config, place, good.clone()).is_empty(), "as it should be");
    let Body::Round(mut bad) = good else { panic!("a round") };
    bad.weights[0] = bad.weights[0].wrapping_add(1);
    let found = appended(&config, place, Body::Round(bad));
    assert!(found.len() == 1 && found[0].starts_with("entry 2: weight of 5Miner00000"), "{found:?}");

    // An epoch, right and then wrong by one.
    let state = subnets::random(&mut Noise::new(3), 8, Limits::Chain);
    let after = state.with_submitted(0, &round().chain_row()).unwrap();
    let chain = serde_json::to_string(&yuma::Epoch::new(&after)).unwrap();
    let with = |chain: String| {
        let state = serde_json::to_string(&state).unwrap();
        Body::Round(Box::new(Round { epoch: Some(Epoch { validator: 0, state, chain }), ..round() }))
    };
    assert!(appended(&config, place, with(chain.clone())).is_empty(), "the epoch follows");
    let mut wrong: Value = serde_json::from_str(&chain).unwrap();
    let incentive = wrong["incentive"][1].as_u64().unwrap();
    wrong["incentive"][1] = (incentive + 1).into();
    let found = appended(&config, place, with(wrong.to_string()));
    let expected = format!("entry 2: epoch.incentive[1]: expected {incentive}, found {}", incentive + 1);
    assert_eq!(found, [expected], "named to the place");
    assert!(appended(&config, place, with("{}".into()))[0].contains("epoch.active"), "one that is not there");

    // Criteria that nobody adopted.
    let other = Config::parse("[score]\nnovelty_power = 2.0", "x").unwrap();
    let found = appended(&other, place, Body::Round(Box::new(round())));
    assert!(found.iter().any(|finding| finding.starts_with("entry 2: criteria: expected")), "{found:?}");
}

fn with_averages() -> Config {
    Config::parse("[[weights.stages]]\nkind = \"ema\"\nalpha = 0.5", "x").unwrap()
}

#[test]
fn averages_go_on_from_entry_to_entry_or_a_finding_says_where_they_do_not() {
    let config = with_averages();
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, change: &dyn Fn(u64, &mut Memory)| {
        let path = folder.path().join(name);
        let mut ledger = Ledger::open(&path).unwrap();
        let mut memory = Memory::default();
        for number in 1..=3 {
            change(number, &mut memory);
            let (round, after) = ledgers::round(&config, number, 3, 2, &memory);
            let place = Place { block: number, ..PLACE };
            ledger.append(place, ledgers::digest(&config), Body::Round(Box::new(round)), None).unwrap();
            memory = after;
        }
        drop(ledger);
        let verified = check(&path);
        (verified.findings.iter().map(ToString::to_string).collect::<Vec<_>>(), verified.notes)
    };
    assert_eq!(run("good", &|_, _| {}), (vec![], vec![]), "they go on");
    let favour = |number, memory: &mut Memory| {
        if number == 3 {
            memory.averages.insert("5Miner00001".into(), 1.0);
        }
    };
    let (found, _) = run("favour", &favour);
    assert!(found.len() == 1 && found[0].starts_with("entry 3: memory of 5Miner00001"), "{found:?}");
    let forget = |number, memory: &mut Memory| {
        if number == 2 {
            *memory = Memory::default();
        }
    };
    let (found, notes) = run("forget", &forget);
    assert!(found.is_empty() && notes.len() == 1 && notes[0].contains("begins anew"), "{notes:?}");
    let rename = |number, memory: &mut Memory| {
        if number == 2 {
            let average = memory.averages.remove("5Miner00002").unwrap();
            memory.averages.insert("5Moved".into(), average);
        }
    };
    let (found, notes) = run("rename", &rename);
    assert!(found.is_empty() && notes[0].contains("5Miner00002 is now 5Moved"), "{found:?} {notes:?}");
}

#[test]
fn criteria_change_by_an_entry_of_their_own_and_averages_begin_anew_where_it_says_so() {
    let (old, new) = (
        with_averages(),
        Config::parse("[score]\nnovelty_power = 2.0\n[[weights.stages]]\nkind = \"ema\"\nalpha = 0.5", "x").unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    for (keeps_memory, carries, fine) in
        [(true, true, true), (true, false, true), (false, false, true), (false, true, false)]
    {
        let path = folder.path().join(format!("{keeps_memory}-{carries}"));
        let mut ledger = Ledger::open(&path).unwrap();
        let (first, memory) = ledgers::round(&old, 1, 3, 2, &Memory::default());
        ledger.append(PLACE, ledgers::digest(&old), Body::Round(Box::new(first)), None).unwrap();
        let refused = ledger.check(PLACE, ledgers::digest(&new)).unwrap_err().to_string();
        assert!(refused.contains("the round is scored by"), "{refused}");
        let change = CriteriaChanged {
            from: ledgers::digest(&old),
            to: ledgers::digest(&new),
            criteria: new.to_toml(),
            keeps_memory,
            vote: None,
        };
        ledger.append(PLACE, ledgers::digest(&new), Body::CriteriaChanged(change), None).unwrap();
        assert_eq!(ledger.begins_anew(), !keeps_memory, "what the next round is to know");
        ledger.check(PLACE, ledgers::digest(&new)).unwrap();
        let memory = if carries { memory } else { Memory::default() };
        let (second, _) = ledgers::round(&new, 2, 3, 2, &memory);
        ledger.append(PLACE, ledgers::digest(&new), Body::Round(Box::new(second)), None).unwrap();
        drop(ledger);
        let found = check(&path).findings;
        assert_eq!(found.is_empty(), fine, "keeps {keeps_memory}, carries {carries}: {found:?}");
        assert!(fine || found[0].to_string().starts_with("entry 3: memory: expected none"), "{found:?}");
    }
}

#[test]
fn a_ledger_takes_only_what_may_follow() {
    let (_folder, path) = ledger(2);
    let mut ledger = Ledger::open(&path).unwrap();
    let digest = ledgers::digest(&Config::default());
    assert_eq!((ledger.entries(), ledger.criteria()), (2, Some(digest)), "what is in it");
    for (place, text) in [
        (Place { netuid: 8, ..PLACE }, "the ledger is of subnet 7.0, and the round of 8.0"),
        (Place { mechanism: 1, ..PLACE }, "of 7.1"),
        (Place { block: 150, ..PLACE }, "its last entry is of block 200, and the round of 150"),
    ] {
        let error = ledger.check(place, digest).unwrap_err();
        assert!(error.to_string().contains(text) && error.remedy().is_some(), "{error}");
    }
    // The same again counts once.
    let (round, _) = ledgers::round(&Config::default(), 2, 3, 2, &Memory::default());
    let head = ledger.append(Place { block: 200, ..PLACE }, digest, Body::Round(Box::new(round)), None).unwrap();
    assert_eq!((head.number, ledger.entries()), (2, 2), "nothing was added");
    let error = Ledger::open(&path).unwrap_err().to_string();
    assert!(error.contains("another process has the ledger open"), "{error}");
    drop(ledger);
    for (bytes, text) in [(&b"tauscore ledger"[..], "header"), (b"{\"a\": 1}", "header"), (b"", "header")] {
        fs::write(&path, bytes).unwrap();
        let error = Ledger::open(&path).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it was");
    }
}

#[test]
fn a_head_that_was_noted_must_be_there() {
    let (_folder, path) = ledger(3);
    let mut heads = Vec::new();
    verify(&path, &Demands::default(), |entry| heads.push(entry.head.digest())).unwrap();
    for head in &heads {
        let demands = Demands { head: Some(*head), ..Demands::default() };
        assert_eq!(verify(&path, &demands, |_| {}).unwrap().findings, [], "{head}");
    }
    let demands = Demands { head: Some(Digest::of(b"other")), ..Demands::default() };
    assert_eq!(verify(&path, &demands, |_| {}).unwrap().findings[0].field, "head", "another ledger");
}

// Crashes.

#[test]
fn an_append_that_is_cut_at_any_byte_leaves_the_old_ledger_or_the_new_one() {
    let (_folder, path) = ledger(2);
    let old = fs::read(&path).unwrap();
    ledgers::append(&mut Ledger::open(&path).unwrap(), &Config::default(), 3..=3, 3, 2);
    let new = fs::read(&path).unwrap();
    let other = path.with_extension("other");
    let opened = |bytes: &[u8]| {
        fs::write(&other, bytes).unwrap();
        let mut ledger = Ledger::open(&other).unwrap();
        let entries = ledger.entries();
        assert_eq!(ledger.repaired().is_some(), bytes != old && bytes != new, "it says what it did");
        // To append is to wait for the disk.
        if !bytes.len().is_multiple_of(8) {
            return entries;
        }
        ledgers::append(&mut ledger, &Config::default(), 4..=4, 3, 2);
        drop(ledger);
        let verified = check(&other);
        assert_eq!((verified.findings.as_slice(), verified.entries), (&[][..], entries + 1), "and it goes on");
        entries
    };
    // The entry first, behind the old header, and then the header.
    for cut in old.len()..=new.len() {
        let bytes = [&old[..HEADER], &new[HEADER..cut]].concat();
        assert_eq!(opened(&bytes), if cut == new.len() { 3 } else { 2 }, "cut at {cut}");
    }
    for cut in 0..=HEADER {
        assert_eq!(opened(&[&new[..cut], &old[cut..HEADER], &new[HEADER..]].concat()), 3, "header cut at {cut}");
    }
    // Bytes that are there in number only, as after a loss of power.
    for zeros in 1..new.len() - old.len() {
        let mut bytes = [&old[..HEADER], &new[HEADER..]].concat();
        let length = bytes.len();
        bytes[length - zeros..].fill(0);
        if bytes[old.len()..] != new[old.len()..] {
            assert_eq!(opened(&bytes), 2, "{zeros} zeros");
        }
    }
}

#[test]
fn damage_that_no_kill_leaves_is_refused_and_nothing_is_changed() {
    let (_folder, path) = ledger(3);
    let whole = fs::read(&path).unwrap();
    let frames = frames(&whole);
    let refused = |bytes: Vec<u8>, text: &str| {
        fs::write(&path, &bytes).unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert!(error.to_string().contains(text) && error.remedy().unwrap().contains("verify"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it was");
    };
    refused(whole[..frames[2].start].to_vec(), "bytes are missing at its end");
    refused(whole[..whole.len() - 1].to_vec(), "bytes are missing at its end");
    let mut bytes = whole.clone();
    bytes[frames[2].start + 40] ^= 1;
    refused(bytes, "entry 3: its bytes are not those that were written");
    // Header and an early entry both.
    let mut bytes = whole.clone();
    bytes[20] ^= 1;
    bytes[frames[0].start + 40] ^= 1;
    refused(bytes, "entry 1");
}

/// The environment variable that makes [`writer`] append without end to the ledger that it names.
const WRITES: &str = "TAUSCORE_TEST_LEDGER_WRITES";

#[test]
#[ignore = "it is what the next test starts and kills"]
fn writer() {
    use std::io::Write;
    let mut ledger = Ledger::open(Path::new(&std::env::var_os(WRITES).unwrap())).unwrap();
    let mut out = std::io::stdout();
    loop {
        let number = ledger.entries() + 1;
        ledgers::append(&mut ledger, &Config::default(), number..=number, 20, 10);
        writeln!(out, "\nappended {number}").and_then(|()| out.flush()).unwrap();
    }
}

#[test]
fn a_hundred_kills_lose_no_acknowledged_entry() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killed.ledger");
    let mut noise = Noise::new(5);
    let (mut acknowledged, mut writing) = (0, 0);
    for kill in 0..100 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(WRITES, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(u64::from(noise.below(60_000))));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        // The last line may be cut short by the kill.
        let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        if let Some(last) = lines.filter_map(|line| line.trim().strip_prefix("appended ")?.parse().ok()).next_back() {
            (acknowledged, writing) = (last, writing + 1);
        }
        if path.exists() {
            let entries = Ledger::open(&path).unwrap().entries();
            assert!(entries >= acknowledged, "kill {kill}: {acknowledged} were acknowledged, {entries} are there");
            acknowledged = entries;
            let verified = check(&path);
            assert_eq!((verified.findings.as_slice(), verified.entries), (&[][..], entries), "kill {kill}");
        } else {
            assert_eq!(acknowledged, 0, "the ledger is gone");
        }
    }
    assert!(writing > 25, "only {writing} of 100 kills came while entries were appended: too early to say anything");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the ledger is in the folder");
}

// Proofs.

#[test]
fn a_proof_holds_for_its_entry_alone_and_for_every_word_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proved.ledger");
    ledgers::append(&mut Ledger::open(&path).unwrap(), &Config::default(), 1..=2, 7, 5);
    let mut entries = Vec::new();
    verify(&path, &Demands::default(), |entry| entries.push(entry)).unwrap();
    let root = entries[1].head.digest();
    let proof = prove(&entries[1], "5Miner00003").unwrap();
    assert_eq!((proof.responses.len(), proof.check(root)), (5, vec![]), "all of it");
    assert!(!proof.check(entries[0].head.digest()).is_empty(), "not of the other entry");
    assert!(prove(&entries[1], "5Nobody").is_none(), "nobody");
    let text = serde_json::to_string(&proof).unwrap();
    for miner in (0..7).filter(|miner| *miner != 3) {
        assert!(!text.contains(&format!("5Miner{miner:05}")), "nobody else is in it");
    }
    // Every number and every digest in the file is held to the root.
    let value = serde_json::to_value(&proof).unwrap();
    let mut places = Vec::new();
    leaves(&value, &mut String::new(), &mut places);
    let mut changed = 0;
    for place in places.iter().filter(|place| *place != "/tauscore_proof") {
        let mut other = value.clone();
        let leaf = other.pointer_mut(place).unwrap();
        *leaf = match leaf.clone() {
            Value::Number(number) => (number.as_u64().unwrap() ^ 1).into(),
            Value::String(text) if text.len() == 64 => {
                let digit = if text.starts_with('0') { "1" } else { "0" };
                format!("{digit}{}", &text[1..]).into()
            }
            Value::String(text) => format!("{text}x").into(),
            _ => continue,
        };
        let other: Proof = serde_json::from_value(other).unwrap();
        // The number of leaves is held to the root by the length of paths alone.
        if !matches!(place.as_str(), "/answers" | "/entrants") {
            assert!(!other.check(root).is_empty(), "{place} was changed");
            changed += 1;
        }
    }
    assert!(changed > 60, "{changed} places");
}

/// The places of a value's leaves.
fn leaves(value: &Value, place: &mut String, places: &mut Vec<String>) {
    let mut descend = |name: String, value: &Value| {
        let length = place.len();
        place.push('/');
        place.push_str(&name);
        leaves(value, place, places);
        place.truncate(length);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| descend(key.clone(), value)),
        Value::Array(list) => list.iter().enumerate().for_each(|(at, value)| descend(at.to_string(), value)),
        _ => places.push(place.clone()),
    }
}
