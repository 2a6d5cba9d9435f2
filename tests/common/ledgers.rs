//! Rounds for ledgers, made without models.

use tauscore::config::Config;
use tauscore::device::Noise;
use tauscore::ledger::{Body, Digest, Ledger, Place, Round, shaders, step};
use tauscore::stages::weights::{Answer, Entrant, Memory, Table, weigh};

/// Where these rounds are.
pub const PLACE: Place = Place { netuid: 7, mechanism: 0, block: 0 };

/// The digest of criteria, as ledgers have it.
pub fn digest(config: &Config) -> Digest {
    Digest::of(config.to_toml().as_bytes())
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
