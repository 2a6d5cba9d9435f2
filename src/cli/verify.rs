//! `tauscore verify`: whether a record says what it was written to say, and whether everything in it follows.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, load_judge, write_json, write_text};
use crate::config::Config;
use crate::data::{Options, Round, Source};
use crate::ledger::{self, Body, Demands, Digest, Entry, Finding, Proof, PublicKey, Scheme, Verified};
use crate::pipeline::Models;
use crate::{Error, Result, state};

/// Options of `tauscore verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The ledger
    #[arg(value_name = "LEDGER", required_unless_present = "proof", conflicts_with = "proof")]
    ledger: Option<PathBuf>,
    /// Hotkeys whose signatures count: every entry has to have one of them. An address, or a file of addresses, one a line; repeatable
    #[arg(long, value_name = "HOTKEY|FILE")]
    allow: Vec<String>,
    /// An entry's digest that was noted elsewhere, which the ledger must have
    #[arg(long, value_name = "DIGEST", conflicts_with = "proof")]
    head: Option<Digest>,
    /// Show this entry, and compute this one again with --recompute
    #[arg(long, value_name = "N", conflicts_with = "proof", value_parser = clap::value_parser!(u64).range(1..))]
    entry: Option<u64>,
    /// Score the round of --round again on this machine, and compare to within the step that the record states
    #[arg(long, group = "compares", requires = "round", conflicts_with = "proof")]
    recompute: bool,
    /// The round's texts: JSON Lines, plain or gzip; repeatable. With --proof the miner's own answers
    #[arg(long, value_name = "ROUND", requires = "compares")]
    round: Vec<PathBuf>,
    /// Its references
    #[arg(long, value_name = "FILE", requires = "recompute")]
    references: Vec<PathBuf>,
    /// An earlier round that counted as answered before; repeatable, in the order of the record
    #[arg(long, value_name = "FILE", requires = "recompute")]
    history: Vec<PathBuf>,
    /// The language model's file or folder, where it is not the one that the criteria name
    #[arg(long, value_name = "NAME|GGUF|FOLDER", requires = "recompute")]
    loss_model: Option<String>,
    /// What `tauscore prove` wrote
    #[arg(long, value_name = "FILE", group = "compares", requires = "root")]
    proof: Option<PathBuf>,
    /// The digest of the entry that it is about
    #[arg(long, value_name = "DIGEST", requires = "proof")]
    root: Option<Digest>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: &VerifyArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    match (&args.ledger, &args.proof, args.root) {
        (_, Some(proof), Some(root)) => check_proof(args, proof, root, console, out),
        (Some(path), ..) => check_ledger(args, path, console, out),
        _ => Ok(Status::Good),
    }
}

fn check_ledger(args: &VerifyArgs, path: &Path, console: &Console, out: &mut dyn Write) -> Outcome {
    let demands = Demands { signers: signers(&args.allow)?, head: args.head };
    let texts = match args.round.as_slice() {
        [] => None,
        rounds => Some(read_round(rounds, &args.references)?),
    };
    let wanted = texts.as_ref().map(|round| Digest(state::digest(round)));
    // The entry to look at, with the criteria that it was scored by.
    let (mut chosen, mut criteria): (Option<(Entry, Option<String>)>, Option<String>) = (None, None);
    let mut verified = ledger::verify(path, &demands, |entry| {
        if let Some(text) = entry.body.criteria() {
            criteria = Some(text.to_owned());
        }
        let round = entry.body.round();
        let is_it = match args.entry {
            Some(number) => entry.head.number == number,
            None => round.is_some_and(|round| wanted == Some(round.round)),
        };
        if is_it {
            chosen = Some((entry, criteria.clone()));
        }
    })?;
    if let (Some(number), None) = (args.entry, &chosen) {
        return Err(Error::Usage {
            argument: "--entry".into(),
            problem: format!("there is no entry {number} among the {} that can be read", verified.entries),
            remedy: "entries are numbered from 1".into(),
        });
    }
    let mut recomputed = None;
    if let (true, Some(texts)) = (args.recompute, &texts) {
        let Some((entry, Some(criteria))) = &chosen else {
            let digest = wanted.map(|digest| digest.to_string()).unwrap_or_default();
            return Err(Error::Usage {
                argument: "--round".into(),
                problem: format!("no entry is of this round ({digest})"),
                remedy: "give the round as it was scored, or name the entry to compare it with (--entry N)".into(),
            });
        };
        let mut findings = recompute(args, entry, criteria, texts, console)?;
        recomputed = Some(entry.head.number);
        verified.findings.append(&mut findings);
    }
    let shown = args.entry.and(chosen.as_ref()).map(|(entry, _)| entry);
    if console.json {
        let value = json!({
            "ledger": path.display().to_string(),
            "verified": verified,
            "recomputed": recomputed,
            "entry": shown.map(|entry| json!({"head": entry.head, "digest": entry.head.digest(),
                "signature": entry.signature, "signature_holds": entry.signature_holds()})),
        });
        write_json(out, &value)?;
    } else {
        if let Some(entry) = shown {
            write_text(out, &describe(entry))?;
        }
        write_text(out, &summary(path, &verified, recomputed))?;
    }
    Ok(if verified.findings.is_empty() { Status::Good } else { Status::Finding })
}

fn read_round(rounds: &[PathBuf], references: &[PathBuf]) -> Result<Round> {
    let sources = |paths: &[PathBuf]| paths.iter().map(Source::path).collect::<Vec<_>>();
    Ok(Round::read(sources(rounds), sources(references), Options::default())?.0)
}

/// Scores a recorded round again.
fn recompute(
    args: &VerifyArgs,
    entry: &Entry,
    criteria: &str,
    texts: &Round,
    console: &Console,
) -> Result<Vec<Finding>> {
    let Body::Round(recorded) = &entry.body else {
        return Err(Error::Usage {
            argument: "--entry".into(),
            problem: format!("entry {} is a change of criteria, not a round", entry.head.number),
            remedy: "name a round's entry".into(),
        });
    };
    let mut config = Config::parse(criteria, "criteria of the ledger")?;
    args.model.apply(&mut config);
    if let Some(model) = &args.loss_model {
        // The pin stays that of the record.
        config.loss.sha256 = config.loss.pin().map(str::to_owned);
        config.loss.model = Some(model.clone());
    }
    let history = args.history.iter().map(|path| read_round(std::slice::from_ref(path), &[]));
    let history = history.collect::<Result<Vec<_>>>()?;
    let device = args.device.open(console)?;
    let embedder = args.model.load(&mut config, &args.device, device, console)?;
    let judge = load_judge(&mut config, embedder.device(), args.model.offline, console)?;
    let mut models = Models::new(&embedder, judge.as_ref());
    let recorded = (entry.head.number, &**recorded);
    ledger::recompute(recorded, &config, &mut models, (texts, &history), &mut console.listener())
}

/// Hotkeys from the command line and from files.
fn signers(allowed: &[String]) -> Result<Option<Vec<PublicKey>>> {
    if allowed.is_empty() {
        return Ok(None);
    }
    let mut keys = Vec::new();
    for word in allowed {
        let path = Path::new(word);
        let text = if path.exists() {
            std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?
        } else {
            word.clone()
        };
        for address in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            // An address does not tell the scheme.
            for scheme in [Scheme::Sr25519, Scheme::Ed25519] {
                keys.push(PublicKey::from_address(address, scheme)?);
            }
        }
    }
    Ok(Some(keys))
}

/// An entry for a person.
fn describe(entry: &Entry) -> String {
    let head = &entry.head;
    let mut lines = vec![
        format!("entry {}: {}", head.number, head.digest()),
        format!("  subnet {}.{}, block {}, after {}", head.netuid, head.mechanism, head.block, head.previous),
        format!("  criteria {}", head.criteria),
    ];
    match &entry.body {
        Body::Round(round) => {
            let table = &round.table;
            lines.push(format!(
                "  a round: {} answers to {} prompts, {} in the weight row; tauscore {} on {}",
                table.answers.len(),
                table.prompts.len(),
                round.chain_row().len(),
                round.engine,
                round.device
            ));
            lines.push(format!("  responses {}", head.responses));
            lines.push(format!("  scores    {}", head.scores));
            lines.push(format!("  weights   {}", head.weights));
            lines.push(format!("  shaders   {}", round.shaders));
            for model in &round.models {
                lines.push(format!(
                    "  {} {}: weights {}, tokenizer {}",
                    model.role, model.name, model.weights, model.tokenizer
                ));
            }
            let bound = match round.step {
                0 => "scores are the same on every machine".to_owned(),
                step => format!("scores are the same to within {step} of 65535 on every machine"),
            };
            lines.push(format!("  {bound}; {} earlier rounds counted as answered before", round.history.len()));
            if let Some(epoch) = &round.epoch {
                lines.push(format!("  an epoch with the row of uid {}", epoch.validator));
            }
        }
        Body::CriteriaChanged(change) => {
            let memory = if change.keeps_memory { "go on" } else { "begin anew" };
            lines.push(format!("  criteria changed from {}; averages and ratings {memory}", change.from));
        }
    }
    if let Some(signer) = &head.signer {
        lines.push(format!(
            "  signed by {signer}{}",
            if entry.signature_holds() { "" } else { ": the signature does not hold" }
        ));
    }
    lines.join("\n") + "\n"
}

fn summary(path: &Path, verified: &Verified, recomputed: Option<u64>) -> String {
    let Verified { entries, rounds, responses, epochs, signed, head, criteria, findings, notes } = verified;
    let rounds = counted(*rounds, "round", "rounds");
    let mut text = format!(
        "{}: {}, {signed} of them signed; {rounds} of {}, {}\nhead     {head}\ncriteria {criteria}\n",
        path.display(),
        counted(*entries, "entry", "entries"),
        counted(*responses, "response", "responses"),
        counted(*epochs, "epoch", "epochs"),
    );
    for note in notes {
        text += &format!("note: {note}\n");
    }
    for finding in findings {
        text += &format!("FINDING {finding}\n");
    }
    text += &match (findings.len(), recomputed) {
        (0, Some(entry)) => {
            format!(
                "Everything holds: chain, digests, signatures, weights and epochs; entry {entry} scored again is the same.\n"
            )
        }
        (0, None) => "Everything holds: chain, digests, signatures, weights and epochs.\n".into(),
        (count, _) => counted(count as u64, "finding", "findings") + ".\n",
    };
    text
}

/// A number with its noun.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn check_proof(args: &VerifyArgs, path: &Path, root: Digest, console: &Console, out: &mut dyn Write) -> Outcome {
    let proof = Proof::read(path)?;
    let number = proof.head.number;
    let mut findings: Vec<Finding> = proof
        .check(root)
        .into_iter()
        .map(|wrong| {
            let found = wrong.found.map_or("nothing".to_owned(), |found| found.to_string());
            Finding::new(number, wrong.claim, wrong.expected, found)
        })
        .collect();
    if let Some(allowed) = signers(&args.allow)?
        && !proof.head.signer.is_some_and(|signer| allowed.contains(&signer))
    {
        let found = proof.head.signer.map_or("none".to_owned(), |signer| signer.to_string());
        findings.push(Finding::new(number, "signer", "one of those allowed", found));
    }
    if !args.round.is_empty() {
        let round = read_round(&args.round, &[])?;
        for row in round.responses() {
            let (Some(miner), Some(prompt)) = (round.miner_of(row), round.prompt_of(row)) else { continue };
            if miner.hotkey.as_str() != proof.hotkey {
                continue;
            }
            let text = Digest::of(row.text.as_bytes());
            let recorded = proof.responses.iter().find(|response| response.prompt_id == prompt.id);
            if recorded.map(|response| response.text) != Some(text) {
                let found = recorded.map_or("none".to_owned(), |response| response.text.to_string());
                findings.push(Finding::new(number, format!("text to {:?}", prompt.id), text, found));
            }
        }
    }
    if console.json {
        write_json(out, &json!({"proof": proof, "findings": findings}))?;
    } else {
        let count = proof.responses.len();
        let mut text = format!(
            "{}: {count} responses and a weight of {} in entry {} (subnet {}.{}, block {})\n",
            proof.hotkey,
            proof.weight.weight,
            proof.head.number,
            proof.head.netuid,
            proof.head.mechanism,
            proof.head.block
        );
        for finding in &findings {
            text += &format!("FINDING {finding}\n");
        }
        text += match findings.len() {
            0 => "Everything holds: responses, scores and weight are in the record that has this digest.\n",
            _ => "The proof does not hold.\n",
        };
        write_text(out, &text)?;
    }
    Ok(if findings.is_empty() { Status::Good } else { Status::Finding })
}
