//! Rounds for ledgers, made without models.
#![allow(dead_code, reason = "each test and bench uses its own part")]

use tauscore::config::Config;
use tauscore::device::Noise;
use tauscore::ledger::{Body, Digest, Entry, Head, Ledger, MAGIC, Place, Round, shaders, step};
use tauscore::stages::weights::{Answer, Entrant, Memory, Table, weigh};

/// Where these rounds are.
pub const PLACE: Place = Place { netuid: 7, mechanism: 0, block: 0 };

/// The digest of criteria, as ledgers have it.
pub fn digest(config: &Config) -> Digest {
    Digest::of_criteria(config)
}

/// The `number`-th round by `config`: so many miners answer so many prompts, and get the weights that follow.
pub fn round(config: &Config, number: u64, miners: u32, prompts: u32, memory: &Memory) -> (Round, Memory) {
    let mut noise = Noise::new(number + 1);
    let entrant = |miner: u32| Entrant {
        hotkey: format!("5Miner{miner:05}"),
        uid: Some(miner as u16),
        coldkey: None,
        block: Some(number * 100),
    };
    let mut answers = Vec::new();
    for prompt in 0..prompts {
        for entrant in 0..miners {
            let mut part = || noise.below(65_536) as u16;
            answers.push(Answer { prompt, entrant, score: part(), accuracy: part(), novelty: part() });
        }
    }
    let table = Table {
        entrants: (0..miners).map(entrant).collect(),
        prompts: (0..prompts).map(|prompt| format!("{number:06}-{prompt:03}")).collect(),
        answers,
        unanswered_is_zero: true,
        block: Some(number * 100),
        ..Table::default()
    };
    let weighing = weigh(&config.weights, &table, memory).expect("legal");
    let text = |at: usize| Digest::of(format!("answer {at} of round {number}").as_bytes());
    let round = Round {
        engine: "test".into(),
        device: "none".into(),
        shaders: shaders(),
        models: Vec::new(),
        criteria: (number == 1).then(|| config.to_toml()),
        step: step(config),
        round: Digest::of(&number.to_le_bytes()),
        prompts: Digest::of(b"prompts"),
        history: Vec::new(),
        texts: (0..table.answers.len()).map(text).collect(),
        table,
        memory: memory.clone(),
        weights: weighing.row,
        epoch: None,
    };
    (round, weighing.memory)
}

/// Appends rounds `from..=to` by `config`.
pub fn append(ledger: &mut Ledger, config: &Config, numbers: std::ops::RangeInclusive<u64>, miners: u32, prompts: u32) {
    for number in numbers {
        let (round, _) = round(config, number, miners, prompts, &Memory::default());
        let place = Place { block: number * 100, ..PLACE };
        ledger.append(place, digest(config), Body::Round(Box::new(round)), None).expect("appended");
    }
}

/// Bytes of a ledger's header.
pub const HEADER: usize = 84;

/// An entry's bytes as the file has them, with the length before and the check behind.
pub fn frame(entry: &Entry) -> Vec<u8> {
    let bytes = borsh::to_vec(entry).expect("a vector takes it");
    let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
    frame.extend(bytes);
    let check = blake3::hash(&frame);
    frame.extend(&check.as_bytes()[..8]);
    frame
}

/// Writes a ledger of so many rounds at once: to append them one by one is to wait for the disk twice a round.
pub fn write(path: &std::path::Path, config: &Config, rounds: u64, miners: u32, prompts: u32) {
    let (mut bytes, mut last, mut previous) = (vec![0; HEADER], 0, Digest::default());
    for number in 1..=rounds {
        let body = Body::Round(Box::new(round(config, number, miners, prompts, &Memory::default()).0));
        let place = Place { block: number * 100, ..PLACE };
        let head = Head::new((number, previous), place, digest(config), &body, None);
        (last, previous) = (bytes.len() as u64, head.digest());
        bytes.extend(frame(&Entry { head, body, signature: None }));
    }
    let mut header = MAGIC.to_vec();
    header.extend(borsh::to_vec(&(1_u32, rounds, bytes.len() as u64, last, previous)).expect("a vector takes it"));
    let check = blake3::hash(&header);
    header.extend(&check.as_bytes()[..8]);
    bytes[..HEADER].copy_from_slice(&header);
    std::fs::write(path, bytes).expect("written");
}
