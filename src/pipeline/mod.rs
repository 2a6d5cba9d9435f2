//! The main job, end to end: a round in, scores and a weight row out.

pub mod audit;
mod copies;
mod embedder;
mod epoch;
pub mod eval;
pub mod explain;
mod files;
pub mod forecast;
pub mod judge;
mod losses;
mod measurements;
mod similarity;
mod texts;
mod weigh;

use std::collections::HashMap;
use std::time::Instant;

pub use copies::{Cluster, Copied, Copier, Copy, Proof};
pub use embedder::Embedder;
pub use epoch::{EpochResult, epoch, validator};
pub use files::{check_folder, write};
pub(crate) use files::{damaged, read_json};
pub use judge::Judge;
pub use losses::{Measured, check_references, measure};
pub use measurements::Models;
pub use similarity::Similarity;
pub use weigh::{StageValue, check_owner};

use crate::Result;
use crate::config::Config;
use crate::data::{Response, Round, Uid};
use crate::progress::{Event, Listener};
use crate::stages::eval::{Estimate, Resamples};
use crate::stages::novelty::{self, Against, Bank, NOBODY};
use crate::stages::score::Unanswered;
use crate::stages::weights::{Memory, Table, Tally};
use crate::stages::yuma::State;
use losses::Measure;
use measurements::Judging;
use texts::{Embedded, Texts};

/// What came of one response.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredResponse {
    /// In [0, 1]; 1 = like nothing before, 0 = a copy. What is left of it by [`Copied::certainty`].
    pub novelty: f64,
    /// The most similar earlier response, if there is any.
    pub nearest: Option<Nearest>,
    /// Whether it is a copy.
    pub copied: Copied,
    /// The reference loss.
    pub loss: f64,
    /// In [0, 1], from the loss.
    pub accuracy: f64,
    /// What is wrong with the arrays that came with it, if the kind of loss judges them and there is anything.
    pub fault: Option<String>,
    /// The score in 65535ths.
    pub score: u16,
    /// Tokens that were embedded; `None` where the embedding came with the row.
    pub tokens: Option<u32>,
    /// Characters of the response.
    pub chars: usize,
    /// Whether the response was longer than the limit and was cut.
    pub truncated: bool,
}

/// An earlier response by another miner.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// His hotkey.
    pub miner: String,
    /// The prompt that he answered.
    pub prompt_id: String,
    /// Cosine of the two embeddings.
    pub similarity: f64,
    /// Whether it is of an earlier round.
    pub history: bool,
    /// How it begins, on one line.
    pub excerpt: String,
}

/// Characters of an excerpt.
const EXCERPT: usize = 160;

/// How a response begins, on one line.
fn excerpt(response: &Response) -> String {
    crate::stages::copies::excerpt(&response.text, EXCERPT)
}

/// What came of one miner.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredMiner {
    /// His hotkey.
    pub miner: String,
    /// His uid, where one is known.
    pub uid: Option<Uid>,
    /// Prompts that he answered.
    pub prompts: usize,
    /// Responses of his that count as copies.
    pub copies: usize,
    /// Mean novelty over them.
    pub novelty: f64,
    /// Mean accuracy over them.
    pub accuracy: f64,
    /// Between which bounds that mean lies for 95 % of resamples of the prompts that he answered; `None` with fewer than
    /// [`ENOUGH`] of them, of which it would say too little.
    pub accuracy_interval: Option<[f64; 2]>,
    /// Scores in 65535ths over the prompts that count.
    pub tally: Tally,
    /// The weight as the chain takes it.
    pub weight: u16,
    /// What each of the criteria's stages gave him, where there are any.
    pub stages: Vec<StageValue>,
}

/// What came of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// One for each response, in input order.
    pub responses: Vec<ScoredResponse>,
    /// One for each miner, in order of first appearance; behind them, by hotkey, who gets a weight without having answered.
    pub miners: Vec<ScoredMiner>,
    /// The round as it was weighed: with the criteria and what was remembered before it, all that the weights depend on.
    pub table: Table,
    /// What the next round is to be told ([`Past::memory`]).
    pub memory: Memory,
    /// Tokens that were embedded.
    pub tokens: u64,
    /// How long embedding took, in seconds.
    pub seconds: f64,
    /// Which of [`Models::embeddings`] is each response's.
    pub rows: Vec<u32>,
    /// How alike the miners answer.
    pub similarity: Similarity,
}

/// What was before a round.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// Earlier rounds, whose responses count as answered before; the oldest first.
    pub rounds: &'a [Round],
    /// What the stages of the weights remember.
    pub memory: &'a Memory,
}

/// Scores `round` by `config`, with the responses of `history` (earlier rounds) as what was answered before. `subnet`
/// gives uids to hotkeys, where it is known, and overrules those of the rows. What `models` said in the rounds before they are not asked again.
///
/// # Errors
/// As [`check_references`]; [`Error::Usage`](crate::Error::Usage) if an embedding has another width than the model's;
/// [`Error::Row`](crate::Error::Row) if an embedding that came with a row is not one of the embedder's precision;
/// [`Error::Device`](crate::Error::Device) if the device fails; [`Error::Io`](crate::Error::Io) if a file of logits cannot be read; as
/// [`weigh`](crate::stages::weights::weigh).
pub fn score(
    models: &mut Models<'_>,
    round: &Round,
    history: &[Round],
    subnet: Option<&State>,
    config: &Config,
    listen: Listener<'_>,
) -> Result<Outcome> {
    let past = Past { rounds: history, memory: &Memory::default() };
    score_after(past, models, round, subnet, config, listen)
}

/// As [`score`], with what the stages of the weights remember.
///
/// # Errors
/// As [`score`].
pub fn score_after(
    Past { rounds: history, memory }: Past<'_>,
    models: &mut Models<'_>,
    round: &Round,
    subnet: Option<&State>,
    config: &Config,
    listen: Listener<'_>,
) -> Result<Outcome> {
    config.check()?;
    check_owner(config, subnet)?;
    let measure = Measure::new(round, &config.loss)?;
    let began = Instant::now();
    models.begin();
    let Models { embedder, judge, texts, cases } = models;
    let mut texts = Texts::new(embedder, texts);
    // What is not compared with need not be embedded.
    let banked = if config.novelty.against == Against::Batch { &[] } else { history };
    for row in round.responses().iter().chain(banked.iter().flat_map(Round::responses)) {
        if row.embedding.is_none() {
            texts.want(&row.text);
        }
    }
    measure.embeds().iter().for_each(|reference| texts.want(reference));
    texts.embed(listen)?;
    let rows = texts.rows(round)?;
    let (bank_rows, bank_miners) = bank(&mut texts, round, banked)?;
    let seconds = began.elapsed().as_secs_f64();
    let (device, embeddings) = (embedder.device(), texts.embeddings());

    let began = Instant::now();
    listen(Event::Began { stage: "novelty", total: round.responses().len() as u64, unit: "responses" });
    warn_of_missing_blocks(round, listen);
    if config.novelty.against == Against::History && history.is_empty() {
        let message = "the criteria compare responses with earlier rounds (novelty.against = \"history\"), and none is given: everything is \
                       new; name them with --history";
        listen(Event::Warning { message: message.into() });
    }
    let arrivals = round.arrivals();
    let miners_of: Vec<u32> = round.responses().iter().map(|row| row.miner).collect();
    let bank = Bank { rows: &bank_rows, miners: &bank_miners };
    let novelties = novelty::novelty(
        device,
        embeddings,
        &rows,
        &miners_of,
        &arrivals,
        bank,
        (config.novelty.against, config.novelty.nearest),
    )?;
    listen(Event::Ended { stage: "novelty", seconds: began.elapsed().as_secs_f64() });

    let began = Instant::now();
    listen(Event::Began { stage: "copies", total: round.responses().len() as u64, unit: "responses" });
    let copied = copies::find(device, round, &arrivals, history, subnet, config.copies.bits)?;
    listen(Event::Ended { stage: "copies", seconds: began.elapsed().as_secs_f64() });

    let began = Instant::now();
    listen(Event::Began { stage: "accuracy", total: round.responses().len() as u64, unit: "responses" });
    let copies: Vec<bool> = copied.iter().map(|copied| copied.copy.is_some()).collect();
    let judging = judge.map(|judge| Judging { judge, known: cases });
    let judgements = measure.measure(round, Some(Embedded { texts: &texts, rows: &rows }), judging, &copies, listen)?;
    listen(Event::Ended { stage: "accuracy", seconds: began.elapsed().as_secs_f64() });

    let responses: Vec<ScoredResponse> = round
        .responses()
        .iter()
        .zip(copied)
        .zip(novelties.iter().zip(judgements))
        .map(|((row, copied), (novelty, Measured { loss, accuracy, fault, .. }))| {
            // A blank answer resembles every reference a little; it is worth nothing all the same.
            let worthless = fault.is_some() || measure.reads_text() && row.text.trim().is_empty();
            let count = row.embedding.is_none().then(|| texts.count(&row.text));
            ScoredResponse {
                novelty: novelty.novelty * (1.0 - copied.certainty),
                nearest: novelty.nearest.and_then(|neighbour| name(round, history, neighbour)),
                score: config.score.score(accuracy, novelty.novelty, copied.certainty, worthless),
                copied,
                loss,
                accuracy,
                tokens: count.map(|count| count.tokens),
                chars: row.text.chars().count(),
                truncated: count.is_some_and(|count| count.truncated),
                fault,
            }
        })
        .collect();
    let cut = responses.iter().filter(|row| row.truncated).count();
    if cut > 0 {
        let limit = embedder.max_tokens();
        let of = responses.len();
        listen(Event::Warning {
            message: format!("{cut} of {of} responses are longer than {limit} tokens and were cut"),
        });
    }
    warn_of_faults(round, &responses, listen);
    let mut miners = miners(round, &responses, subnet, config.score.unanswered, listen);
    let (table, memory) = weigh::weigh(round, &responses, &mut miners, subnet, config, memory, listen)?;
    if miners.iter().all(|miner| miner.weight == 0) {
        listen(Event::Warning {
            message: "every score is 0: the weight row is empty and must not be submitted".into(),
        });
    }
    let ranking = files::ranking(&miners);
    let similarity = similarity::similarity(round, embeddings, &rows, (&miners, &ranking), &responses);
    Ok(Outcome { responses, miners, table, memory, tokens: texts.tokens(), seconds, rows, similarity })
}

/// The history bank: the embeddings' rows of earlier rounds' responses, and whose they are in this one.
fn bank(texts: &mut Texts<'_>, round: &Round, history: &[Round]) -> Result<(Vec<u32>, Vec<u32>)> {
    let present = Present::new(round);
    let (mut rows, mut miners) = (Vec::new(), Vec::new());
    for earlier in history {
        rows.extend(texts.rows(earlier)?);
        miners.extend(earlier.responses().iter().map(|row| present.index(earlier, row).unwrap_or(NOBODY)));
    }
    Ok((rows, miners))
}

/// The miners of this round, by whom those of earlier rounds are known again.
struct Present<'a>(HashMap<&'a str, u32>);

impl<'a> Present<'a> {
    fn new(round: &'a Round) -> Self {
        Self(round.miners().iter().zip(0..).map(|(miner, index)| (miner.hotkey.as_str(), index)).collect())
    }

    /// The index in this round of who gave a response of `of`; `None` if he answers nothing here.
    fn index(&self, of: &Round, response: &Response) -> Option<u32> {
        self.0.get(hotkey(of, response.miner)).copied()
    }
}

fn hotkey(round: &Round, miner: u32) -> &str {
    round.miners().get(miner as usize).map_or("", |miner| miner.hotkey.as_str())
}

/// Names a neighbour: rows of the round first, then those of the history, round by round.
fn name(round: &Round, history: &[Round], neighbour: novelty::Neighbour) -> Option<Nearest> {
    let mut row = neighbour.index;
    for (index, of) in std::iter::once(round).chain(history).enumerate() {
        if let Some(response) = of.responses().get(row) {
            return Some(Nearest {
                miner: hotkey(of, response.miner).to_owned(),
                prompt_id: of.prompt_of(response)?.id.clone(),
                similarity: neighbour.similarity,
                history: index > 0,
                excerpt: excerpt(response),
            });
        }
        row -= of.responses().len();
    }
    None
}

fn warn_of_missing_blocks(round: &Round, listen: Listener<'_>) {
    if round.responses().iter().any(|row| row.block.is_none()) && round.miners().len() > 1 {
        let message = "rows have no `block`: who answered first is told by the order of the file, which favours whoever stands \
                       first; add the block of arrival";
        listen(Event::Warning { message: message.into() });
    }
}

fn warn_of_faults(round: &Round, responses: &[ScoredResponse], listen: Listener<'_>) {
    let mut faulty =
        round.responses().iter().zip(responses).filter_map(|(row, scored)| Some((row, scored.fault.as_ref()?)));
    if let Some((row, fault)) = faulty.next() {
        let miner = hotkey(round, row.miner);
        let prompt = round.prompt_of(row).map_or("", |prompt| &prompt.id);
        let count = 1 + faulty.count();
        let message = format!(
            "what came with {count} responses cannot be judged, and they are worth nothing: the first is {miner}'s to prompt {prompt:?}: {fault}"
        );
        listen(Event::Warning { message });
    }
}

/// Prompts from which on a mean says something of a miner (measured: below 20 the order of miners is mostly chance).
pub const ENOUGH: usize = 20;

/// Resamples of the prompts behind an interval.
const RESAMPLES: usize = 1000;

/// The interval of the mean of accuracies, one a prompt. `draws` keeps the resamples of so many prompts.
fn interval(accuracies: &[f64], draws: &mut HashMap<usize, Resamples>) -> Option<[f64; 2]> {
    if accuracies.len() < ENOUGH {
        return None;
    }
    let draws = draws.entry(accuracies.len()).or_insert_with_key(|prompts| Resamples::new(*prompts, RESAMPLES));
    let mean = |counts: &[u32]| {
        let sum: f64 = accuracies.iter().zip(counts).map(|(accuracy, count)| accuracy * f64::from(*count)).sum();
        sum / accuracies.len() as f64
    };
    let estimate = Estimate::new(None, draws.map(mean).into_iter().map(Some));
    Some([estimate.low?, estimate.high?])
}

/// One row a miner, without his weight.
fn miners(
    round: &Round,
    responses: &[ScoredResponse],
    subnet: Option<&State>,
    unanswered: Unanswered,
    listen: Listener<'_>,
) -> Vec<ScoredMiner> {
    let mut miners: Vec<ScoredMiner> =
        round.miners().iter().map(|miner| ScoredMiner::new(miner.hotkey.as_str().to_owned(), miner.uid)).collect();
    if let Some(subnet) = subnet {
        resolve(&mut miners, subnet, listen);
    }
    let mut accuracies = vec![Vec::new(); miners.len()];
    for (row, scored) in round.responses().iter().zip(responses) {
        accuracies[row.miner as usize].push(scored.accuracy);
        let miner = &mut miners[row.miner as usize];
        miner.prompts += 1;
        miner.copies += usize::from(scored.copied.copy.is_some());
        miner.novelty += scored.novelty;
        miner.accuracy += scored.accuracy;
        miner.tally.sum += u64::from(scored.score);
    }
    let mut draws = HashMap::new();
    for (miner, accuracies) in miners.iter_mut().zip(&mut accuracies) {
        // The order of the file must not matter to the draws.
        accuracies.sort_unstable_by(f64::total_cmp);
        miner.accuracy_interval = interval(accuracies, &mut draws);
        miner.novelty /= miner.prompts as f64;
        miner.accuracy /= miner.prompts as f64;
        miner.tally.prompts = match unanswered {
            Unanswered::Zero => round.prompts().len(),
            Unanswered::Skip => miner.prompts,
        } as u64;
    }
    miners
}

/// Takes uids from the subnet, by hotkey.
fn resolve(miners: &mut [ScoredMiner], subnet: &State, listen: Listener<'_>) {
    let uids: HashMap<&str, u16> = subnet.hotkeys.iter().zip(0..).map(|(hotkey, uid)| (hotkey.as_str(), uid)).collect();
    for miner in miners {
        let uid = uids.get(miner.miner.as_str()).copied().map(Uid);
        match (miner.uid, uid) {
            (_, None) => {
                let message = format!("{} is not registered in the subnet: he gets no weight by uid", miner.miner);
                listen(Event::Warning { message });
            }
            (Some(said), Some(uid)) if said != uid => {
                let message = format!("{} has uid {uid} in the subnet, not {said} as the rows say", miner.miner);
                listen(Event::Warning { message });
            }
            _ => {}
        }
        miner.uid = uid;
    }
}
