//! What `score` leaves behind: a folder that is either whole or not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Copied, Nearest, Outcome, ScoredMiner, StageValue, copies, excerpt};
use crate::config::Config;
use crate::data::{Round, Uid, read_text};
use crate::stages::weights::Tally;
use crate::{Error, Result};

/// Files that `score` writes, and what `report` makes of them; a folder with any other file is not replaced.
const OURS: [&str; 8] = [
    "scores.jsonl",
    "miners.json",
    "copies.json",
    "weights.json",
    "similarity.json",
    "criteria.toml",
    "epoch.json",
    "report.html",
];

#[derive(Serialize)]
struct ScoreRow<'a> {
    prompt_id: &'a str,
    miner: &'a str,
    novelty: f64,
    nearest: Option<NearestRow<'a>>,
    copy_evidence: f64,
    copy_of: Option<&'a str>,
    copy_kind: Option<&'a str>,
    loss: f64,
    accuracy: f64,
    score: f64,
    score_u16: u16,
    tokens: Option<u32>,
    chars: usize,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'a str>,
    excerpt: String,
}

#[derive(Serialize)]
struct NearestRow<'a> {
    miner: &'a str,
    prompt_id: &'a str,
    similarity: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    history: bool,
    excerpt: &'a str,
}

#[derive(Serialize)]
struct MinerRow<'a> {
    miner: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<Uid>,
    prompts: usize,
    copies: usize,
    novelty: f64,
    accuracy: f64,
    accuracy_interval: Option<[f64; 2]>,
    score: f64,
    weight: f64,
    weight_u16: u16,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stages: &'a [StageValue],
}

#[derive(Serialize)]
struct Weights<'a> {
    by_hotkey: BTreeMap<&'a str, f64>,
    by_uid: BTreeMap<u16, f64>,
    u16: Pairs,
}

#[derive(Serialize)]
struct Pairs {
    uids: Vec<u16>,
    values: Vec<u16>,
}

impl ScoredMiner {
    /// One of whom nothing is known yet.
    pub(super) fn new(miner: String, uid: Option<Uid>) -> Self {
        Self {
            miner,
            uid,
            prompts: 0,
            copies: 0,
            novelty: 0.0,
            accuracy: 0.0,
            accuracy_interval: None,
            tally: Tally::default(),
            weight: 0,
            stages: Vec::new(),
        }
    }

    /// The mean score, in [0, 1].
    pub fn score(&self) -> f64 {
        // 32 fraction bits over 65535.
        self.tally.mean().to_bits() as f64 / (65_535.0 * 4_294_967_296.0)
    }
}

impl Outcome {
    /// A miner's weight as a share of the row, in [0, 1]; 0 if the row is empty.
    pub fn share(&self, miner: &ScoredMiner) -> f64 {
        let total: u64 = self.miners.iter().map(|miner| u64::from(miner.weight)).sum();
        if total == 0 { 0.0 } else { f64::from(miner.weight) / total as f64 }
    }

    /// The row as it goes to the chain: (uid, weight) by ascending uid, without zeros, which the SDKs drop too.
    pub fn chain_row(&self) -> Vec<(u16, u16)> {
        let mut row: Vec<(u16, u16)> = self
            .miners
            .iter()
            .filter_map(|miner| Some((miner.uid?.0, miner.weight)))
            .filter(|(_, weight)| *weight > 0)
            .collect();
        row.sort_unstable();
        row
    }

    /// The miners, the best first; equal ones by hotkey.
    pub fn ranking(&self) -> Vec<&ScoredMiner> {
        ranking(&self.miners).into_iter().map(|at| &self.miners[at]).collect()
    }
}

/// Indices of the miners, the best first; equal ones by hotkey.
pub(super) fn ranking(miners: &[ScoredMiner]) -> Vec<usize> {
    let mut ranking: Vec<usize> = (0..miners.len()).collect();
    ranking.sort_by(|a, b| {
        let (a, b) = (&miners[*a], &miners[*b]);
        b.tally.mean().cmp(&a.tally.mean()).then_with(|| a.miner.cmp(&b.miner))
    });
    ranking
}

/// Writes `scores.jsonl`, `miners.json`, `copies.json`, `weights.json`, `similarity.json`, `criteria.toml` and, where an epoch ran, `epoch.json` into
/// `folder`: first into a temporary folder beside it, which then takes its place.
///
/// # Errors
/// [`Error::Io`] if a file cannot be written; [`Error::Usage`] if `folder` holds files of somebody else.
pub fn write(
    folder: &Path,
    round: &Round,
    outcome: &Outcome,
    config: &Config,
    epoch: Option<&impl Serialize>,
) -> Result<()> {
    check_folder(folder)?;
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
    let whole =
        tempfile::Builder::new().prefix(".tauscore-").tempdir_in(parent).map_err(|error| Error::io(parent, error))?;
    write_scores(&whole.path().join("scores.jsonl"), round, outcome)?;
    let miners: Vec<MinerRow<'_>> = outcome.ranking().into_iter().map(|miner| miner_row(outcome, miner)).collect();
    write_json(&whole.path().join("miners.json"), &miners)?;
    let copied: Vec<&Copied> = outcome.responses.iter().map(|scored| &scored.copied).collect();
    write_json(&whole.path().join("copies.json"), &copies::clusters(round, &copied))?;
    write_json(&whole.path().join("weights.json"), &weights(outcome))?;
    // Not for reading by eye: up to 33,000 numbers, in one line.
    write_text(&whole.path().join("similarity.json"), serde_json::to_string(&outcome.similarity))?;
    let criteria = whole.path().join("criteria.toml");
    fs::write(&criteria, config.to_toml()).map_err(|error| Error::io(&criteria, error))?;
    if let Some(epoch) = epoch {
        write_json(&whole.path().join("epoch.json"), epoch)?;
    }
    replace(whole, folder, parent)
}

fn write_scores(path: &Path, round: &Round, outcome: &Outcome) -> Result<()> {
    let failed = |error| Error::io(path, error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    for (response, scored) in round.responses().iter().zip(&outcome.responses) {
        let nearest = scored.nearest.as_ref().map(|Nearest { miner, prompt_id, similarity, history, excerpt }| {
            NearestRow { miner, prompt_id, similarity: *similarity, history: *history, excerpt }
        });
        let copy = scored.copied.copy.as_ref();
        let row = ScoreRow {
            prompt_id: round.prompt_of(response).map_or("", |prompt| &prompt.id),
            miner: round.miner_of(response).map_or("", |miner| miner.hotkey.as_str()),
            novelty: scored.novelty,
            nearest,
            copy_evidence: scored.copied.evidence,
            copy_of: copy.map(|copy| copy.of.as_str()),
            copy_kind: copy.map(|copy| copy.kind),
            loss: scored.loss,
            accuracy: scored.accuracy,
            score: f64::from(scored.score) / 65_535.0,
            score_u16: scored.score,
            tokens: scored.tokens,
            chars: scored.chars,
            truncated: scored.truncated,
            fault: scored.fault.as_deref(),
            excerpt: excerpt(response),
        };
        serde_json::to_writer(&mut file, &row).map_err(|error| failed(error.into()))?;
        file.write_all(b"\n").map_err(failed)?;
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
}

fn miner_row<'a>(outcome: &Outcome, miner: &'a ScoredMiner) -> MinerRow<'a> {
    MinerRow {
        miner: &miner.miner,
        uid: miner.uid,
        prompts: miner.prompts,
        copies: miner.copies,
        novelty: miner.novelty,
        accuracy: miner.accuracy,
        accuracy_interval: miner.accuracy_interval,
        score: miner.score(),
        weight: outcome.share(miner),
        weight_u16: miner.weight,
        stages: &miner.stages,
    }
}

fn weights(outcome: &Outcome) -> Weights<'_> {
    let mut row: Vec<(u16, &ScoredMiner)> =
        outcome.miners.iter().filter_map(|miner| Some((miner.uid?.0, miner))).collect();
    row.sort_unstable_by_key(|(uid, _)| *uid);
    let (uids, values) = row.iter().map(|(uid, miner)| (uid, miner.weight)).unzip();
    Weights {
        by_hotkey: outcome.miners.iter().map(|miner| (miner.miner.as_str(), outcome.share(miner))).collect(),
        by_uid: row.iter().map(|(uid, miner)| (*uid, outcome.share(miner))).collect(),
        u16: Pairs { uids, values },
    }
}

/// Reads a file of a result.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?).map_err(|error| damaged(path, "json", error.to_string()))
}

/// That a file of a result is not what was written.
pub(crate) fn damaged(path: &Path, field: &str, problem: String) -> Error {
    Error::File {
        file: path.display().to_string(),
        field: field.into(),
        problem,
        remedy: "score the round again: what score wrote was changed or cut off".into(),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_text(path, serde_json::to_string_pretty(value))
}

fn write_text(path: &Path, json: serde_json::Result<String>) -> Result<()> {
    let failed = |error| Error::io(path, error);
    let mut text = json.map_err(|error| failed(error.into()))?;
    text.push('\n');
    let mut file = File::create(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Checks that results may be written to `folder`: it is missing, empty, or an earlier result. Whoever scores for long
/// asks before, not only when he writes.
///
/// # Errors
/// [`Error::Usage`] if it holds files of somebody else or cannot be replaced; [`Error::Io`] if it cannot be looked at.
pub fn check_folder(folder: &Path) -> Result<()> {
    if folder.file_name().is_none() {
        return Err(Error::Usage {
            argument: "--out".into(),
            problem: format!("{} has no name of its own and cannot be replaced", folder.display()),
            remedy: "name a new folder, or one that an earlier run wrote".into(),
        });
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(folder, error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| Error::io(folder, error))?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            return Err(Error::Usage {
                argument: "--out".into(),
                problem: format!("{} holds {}, which is not tauscore's", folder.display(), name.display()),
                remedy: "name a new folder, or one that an earlier run wrote".into(),
            });
        }
    }
    Ok(())
}

/// Puts the finished folder in the place of `folder`. The old one is moved aside first and removed last.
fn replace(whole: tempfile::TempDir, folder: &Path, parent: &Path) -> Result<()> {
    let failed = |error| Error::io(folder, error);
    // Group and others may read it, as they may what a program writes elsewhere; a temporary folder is private.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(whole.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    let old = tempfile::Builder::new().prefix(".tauscore-old-").tempdir_in(parent).map_err(failed)?;
    let aside = old.path().join("old");
    let existed = folder.exists();
    if existed {
        fs::rename(folder, &aside).map_err(failed)?;
    }
    match fs::rename(whole.path(), folder) {
        Ok(()) => {
            let _ = whole.keep();
            Ok(())
        }
        Err(error) => {
            if existed {
                fs::rename(&aside, folder).map_err(failed)?;
            }
            Err(failed(error))
        }
    }
}
