//! Where a report comes from: what `score` and `demo` wrote, a subnet's state, a ledger.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Neuron, Report, Row, Scored, Subnet};
use crate::config::Config;
use crate::data::{Source, read_scores, read_text};
use crate::fixed::I32F32;
use crate::ledger::MAGIC;
use crate::pipeline::audit::Audit;
use crate::pipeline::{damaged, read_json};
use crate::stages::yuma::{Epoch, State};
use crate::{Error, Result};

/// The file without which a folder is no result of `score`.
const MINERS: &str = "miners.json";

/// What `score` left of an epoch.
#[derive(Deserialize)]
struct EpochFile {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    stake_weight: Vec<u16>,
    consensus: Vec<u16>,
    incentive: Vec<u16>,
    dividends: Vec<u16>,
    validator_trust: Vec<u16>,
    emission: Vec<String>,
}

impl Report {
    /// Of whatever `path` is: a folder that `score` or `demo` wrote, a ledger, or a subnet's state.
    ///
    /// # Errors
    /// As [`Report::from_folder`] and [`State::read`].
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_folder(path);
        }
        if begins(path, MAGIC)? {
            return Self::from_ledger(path);
        }
        let state = State::read(path)?;
        Ok(Self { source: path.display().to_string(), ..Self::from_state(&state, &Epoch::with_raw(&state)) })
    }

    /// Of a folder that `score` wrote or, with one such folder for each validator and `subnet.json` beside them, `demo`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the folder is neither; [`Error::File`] naming file and place if one is damaged; [`Error::Io`] if one cannot
    /// be read.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let state = folder.join("subnet.json");
        let mut report = if state.is_file() {
            let state = State::read(&state)?;
            Self::from_state(&state, &Epoch::with_raw(&state))
        } else {
            Self::default()
        };
        report.source = folder.display().to_string();
        if folder.join(MINERS).is_file() {
            report.rounds.push(scored(folder)?);
            let epoch = folder.join("epoch.json");
            if epoch.is_file() {
                report.subnet = Some(subnet(&epoch, &report.rounds)?);
            }
        } else {
            let uid = |name: &str| {
                let neurons = report.subnet.iter().flat_map(|subnet| &subnet.neurons);
                neurons.into_iter().position(|neuron| neuron.hotkey.as_deref() == Some(name)).unwrap_or(usize::MAX)
            };
            let mut parts: Vec<(usize, String, PathBuf)> = Vec::new();
            for entry in fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
                let entry = entry.map_err(|error| Error::io(folder, error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().join(MINERS).is_file() {
                    parts.push((uid(&name), name, entry.path()));
                }
            }
            parts.sort();
            for (_, name, path) in parts {
                report.rounds.push(Scored { validator: Some(name), ..scored(&path)? });
            }
        }
        if report.rounds.is_empty() && report.subnet.is_none() {
            return Err(Error::Usage {
                argument: "SOURCE".into(),
                problem: format!("{} holds neither {MINERS} nor subnet.json", folder.display()),
                remedy: "name a folder that score or demo wrote".into(),
            });
        }
        Ok(report)
    }

    /// Of a subnet's state and its epoch, which is best computed with [`Epoch::with_raw`]: without its intermediate results the rows of
    /// weights are shown as they were submitted, not as they count.
    pub fn from_state(state: &State, epoch: &Epoch) -> Self {
        let neurons = (0..state.n()).map(|uid| Neuron {
            hotkey: state.hotkeys.get(uid).cloned(),
            stake: share(epoch.stake_weight.get(uid)),
            consensus: share(epoch.consensus.get(uid)),
            incentive: share(epoch.incentive.get(uid)),
            dividends: share(epoch.dividends.get(uid)),
            trust: share(epoch.validator_trust.get(uid)),
            emission: epoch.emission.get(uid).copied().unwrap_or(0),
        });
        let one = I32F32::ONE.to_bits() as f64;
        let mut rows: Vec<Row> = (0..state.n())
            .map(|uid| {
                let weights = match &epoch.raw {
                    Some(raw) => {
                        raw.weights_norm.row(uid).map(|(to, share)| (to, share.to_bits() as f64 / one)).collect()
                    }
                    None => {
                        let sum: u64 = state.weights.row(uid).map(|(_, weight)| u64::from(weight)).sum();
                        state.weights.row(uid).map(|(to, weight)| (to, f64::from(weight) / sum.max(1) as f64)).collect()
                    }
                };
                Row { validator: uid as u16, weights }
            })
            .filter(|row| row.weights.iter().any(|(_, share)| *share > 0.0))
            .collect();
        let stake = |row: &Row| epoch.stake_weight.get(usize::from(row.validator)).copied().unwrap_or(0);
        rows.sort_by_key(|row| std::cmp::Reverse(stake(row)));
        let subnet = Subnet { netuid: Some(state.netuid), block: Some(state.block), neurons: neurons.collect(), rows };
        Self { subnet: Some(subnet), audit: Some(Audit::new(state)), ..Self::default() }
    }
}

/// A value in 65535ths.
fn share(value: Option<&u16>) -> f64 {
    f64::from(value.copied().unwrap_or(0)) / 65_535.0
}

fn begins(path: &Path, with: &[u8]) -> Result<bool> {
    let failed = |error| Error::io(path, error);
    let mut start = Vec::new();
    File::open(path).map_err(failed)?.take(with.len() as u64).read_to_end(&mut start).map_err(failed)?;
    Ok(start == with)
}

/// What `score` left in a folder.
fn scored(folder: &Path) -> Result<Scored> {
    let given = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let scores = given("scores.jsonl").map(|path| read_scores(Source::path(path))).transpose()?;
    let criteria = given("criteria.toml").map(|path| -> Result<(String, String)> {
        let text = read_text(&path)?;
        let digest = Config::parse(&text, &path.display().to_string())?.digest();
        Ok((text, digest))
    });
    let scored = Scored {
        validator: None,
        prompts: scores.map(|scores| scores.prompts.len()),
        miners: read_json(&folder.join(MINERS))?,
        copies: given("copies.json").map(|path| read_json(&path)).transpose()?,
        similarity: given("similarity.json").map(|path| read_json(&path)).transpose()?,
        criteria: criteria.transpose()?,
    };
    if let Some(similarity) = &scored.similarity {
        let rows = similarity.similarity.len();
        let square = similarity.similarity.iter().zip(1..).all(|(row, length)| row.len() == length);
        if rows != similarity.miners.len() || !square {
            let problem = format!("{rows} rows for {} miners, or one of another length", similarity.miners.len());
            return Err(damaged(&folder.join("similarity.json"), "similarity", problem));
        }
    }
    Ok(scored)
}

/// What `score` left of an epoch: without the state nobody's weights are known, and names only of who was scored.
fn subnet(path: &Path, rounds: &[Scored]) -> Result<Subnet> {
    let EpochFile { chain } = read_json(path)?;
    let n = chain.emission.len();
    let mut neurons = Vec::with_capacity(n);
    for (uid, emission) in chain.emission.iter().enumerate() {
        let emission = emission.parse().map_err(|_| {
            damaged(path, &format!("chain.emission[{uid}]"), format!("{emission:?} is no whole number"))
        })?;
        neurons.push(Neuron {
            hotkey: None,
            stake: share(chain.stake_weight.get(uid)),
            consensus: share(chain.consensus.get(uid)),
            incentive: share(chain.incentive.get(uid)),
            dividends: share(chain.dividends.get(uid)),
            trust: share(chain.validator_trust.get(uid)),
            emission,
        });
    }
    for miner in rounds.iter().flat_map(|round| &round.miners) {
        if let Some(neuron) = miner.uid.and_then(|uid| neurons.get_mut(usize::from(uid))) {
            neuron.hotkey = Some(miner.miner.clone());
        }
    }
    Ok(Subnet { netuid: None, block: None, neurons, rows: Vec::new() })
}
