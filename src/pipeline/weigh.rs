//! From a round's scores to its weights by the stages that the criteria declare.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{ScoredMiner, ScoredResponse, hotkey};
use crate::Result;
use crate::config::Config;
use crate::data::{Round, Uid};
use crate::progress::{Event, Listener};
use crate::stages::score::{Unanswered, part};
use crate::stages::weights::{self, Answer, Copying, Entrant, Memory, Table};
use crate::stages::yuma::State;

/// What a stage gave a miner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageValue {
    /// The stage's kind.
    pub kind: &'static str,
    /// The value after it; `None` where he takes no part.
    pub value: Option<f64>,
}

/// Checks that the owner's share, where the criteria declare one, has somebody to go to. Whoever scores for long asks before.
///
/// # Errors
/// As [`WeightsConfig::check_owner`](weights::WeightsConfig::check_owner).
pub fn check_owner(config: &Config, subnet: Option<&State>) -> Result<()> {
    config.weights.check_owner(subnet.and_then(|subnet| subnet.hyper.owner_uid), |uid| {
        let (subnet, uid) = (subnet?, usize::from(uid));
        subnet.hotkeys.get(uid)?;
        Some(subnet.coldkeys.get(uid).map(String::as_str))
    })
}

/// Gives the miners their weights, and returns the round as it was weighed and what to remember. Behind the round's miners come those who get a weight without having answered: whom `memory` knows (in the subnet, where one is given), and the subnet's owner.
///
/// # Errors
/// As [`weights::weigh`].
pub(super) fn weigh(
    round: &Round,
    responses: &[ScoredResponse],
    miners: &mut Vec<ScoredMiner>,
    subnet: Option<&State>,
    config: &Config,
    memory: &Memory,
    listen: Listener<'_>,
) -> Result<(Table, Memory)> {
    let declared = &config.weights;
    if let Some(stage) = declared.stages.iter().find(|stage| stage.remembers() && memory.is_empty()) {
        let kind = stage.kind();
        let message = format!(
            "stage {kind:?} goes on from earlier rounds, and nothing is known of any: this counts as the first"
        );
        listen(Event::Warning { message });
    }
    let unanswered_is_zero = config.score.unanswered == Unanswered::Zero;
    let burns_to = declared.burns_to(subnet.and_then(|subnet| subnet.hyper.owner_uid));
    // Without stages nothing that is remembered counts.
    let known = if declared.stages.is_empty() { &Memory::default() } else { memory };
    let table = Table { unanswered_is_zero, ..table(round, responses, miners, subnet, known, burns_to) };
    let weighing = weights::weigh(declared, &table, memory)?;
    let at: HashMap<String, usize> = miners.iter().enumerate().map(|(at, miner)| (miner.miner.clone(), at)).collect();
    for (index, (entrant, weight)) in table.entrants.iter().zip(weighing.row).enumerate() {
        let step = |step: &weights::Step| StageValue { kind: step.kind, value: step.values[index] };
        let stages: Vec<StageValue> = weighing.steps.iter().map(step).collect();
        if let Some(at) = at.get(&entrant.hotkey) {
            (miners[*at].weight, miners[*at].stages) = (weight, stages);
        } else if stages.last().is_some_and(|stage| stage.value.is_some()) {
            let miner = ScoredMiner::new(entrant.hotkey.clone(), entrant.uid.map(Uid));
            miners.push(ScoredMiner { weight, stages, ..miner });
        }
    }
    Ok((table, weighing.memory))
}

/// The round as the stages see it.
fn table(
    round: &Round,
    responses: &[ScoredResponse],
    miners: &[ScoredMiner],
    subnet: Option<&State>,
    memory: &Memory,
    burns_to: Option<u16>,
) -> Table {
    let registered: HashMap<&str, u16> = subnet
        .into_iter()
        .flat_map(|subnet| subnet.hotkeys.iter().zip(0..))
        .map(|(key, uid)| (key.as_str(), uid))
        .collect();
    let remembered = memory.hotkeys().filter(|hotkey| subnet.is_none() || registered.contains_key(hotkey));
    let owner = subnet.zip(burns_to).and_then(|(subnet, uid)| subnet.hotkeys.get(usize::from(uid)));
    let mut hotkeys: BTreeSet<&str> = miners.iter().map(|miner| miner.miner.as_str()).collect();
    hotkeys.extend(remembered.chain(owner.map(String::as_str)));

    let uids: HashMap<&str, u16> =
        miners.iter().filter_map(|miner| Some((miner.miner.as_str(), miner.uid?.0))).chain(registered).collect();
    let entrant = |key: &&str| {
        let uid = uids.get(key).copied();
        let coldkey = subnet.zip(uid).and_then(|(subnet, uid)| subnet.coldkeys.get(usize::from(uid)).cloned());
        Entrant { hotkey: (*key).to_owned(), uid, coldkey, block: None }
    };
    let mut entrants: Vec<Entrant> = hotkeys.iter().map(entrant).collect();
    let index: HashMap<&str, u32> = hotkeys.iter().copied().zip(0..).collect();

    let mut prompts: Vec<(&str, u32)> =
        round.prompts().iter().zip(0..).map(|(prompt, at)| (prompt.id.as_str(), at)).collect();
    prompts.sort_unstable();
    let mut prompt_at = vec![0; prompts.len()];
    prompts.iter().zip(0..).for_each(|((_, at), sorted)| prompt_at[*at as usize] = sorted);

    let mut answers = Vec::with_capacity(responses.len());
    let mut copies: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (row, scored) in round.responses().iter().zip(responses) {
        let Some(entrant) = index.get(hotkey(round, row.miner)).copied() else { continue };
        let first = &mut entrants[entrant as usize].block;
        *first = row.block.map(|block| first.map_or(block, |first| first.min(block))).or(*first);
        let (accuracy, novelty) = (part(scored.accuracy), part(scored.novelty));
        answers.push(Answer {
            prompt: prompt_at[row.prompt as usize],
            entrant,
            score: scored.score,
            accuracy,
            novelty,
        });
        if let Some(of) = scored.copied.copy.as_ref().and_then(|copy| index.get(copy.of.as_str())) {
            *copies.entry((entrant, *of)).or_default() += 1;
        }
    }
    answers.sort_unstable_by_key(|row| (row.prompt, row.entrant));
    let latest = round.responses().iter().filter_map(|row| row.block).max();
    Table {
        entrants,
        prompts: prompts.into_iter().map(|(id, _)| id.to_owned()).collect(),
        answers,
        copies: copies.into_iter().map(|((entrant, of), answers)| Copying { entrant, of, answers }).collect(),
        block: latest.max(subnet.map(|subnet| subnet.block)),
        owner_uid: subnet.and_then(|subnet| subnet.hyper.owner_uid),
        ..Table::default()
    }
}
