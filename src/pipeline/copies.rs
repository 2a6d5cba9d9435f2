//! Who copied whom: from a round and earlier ones to what each response loses, and to clusters of copies with their originators.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Present, hotkey};
use crate::Result;
use crate::data::{Response, Round};
use crate::device::Device;
use crate::stages::copies::{self, Answer, Finding, NOBODY, Question, Source};
use crate::stages::yuma::State;

/// What is known of a response as a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copied {
    /// How surely it is one, in bits; comparable between prompts. 0 = nothing speaks for it.
    pub evidence: f64,
    /// The share of its novelty that is lost, 0 to 1.
    pub certainty: f64,
    /// If it counts as one: of what, and how.
    pub copy: Option<Copy>,
}

/// A response that counts as a copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// Whose response it was made of: his hotkey.
    pub of: String,
    /// The prompt which that answered.
    pub prompt_id: String,
    /// Whether that was in an earlier round.
    pub history: bool,
    /// In what way it differs, `same_coldkey` if both miners are the same owner's.
    pub kind: &'static str,
    /// The longest run of words that both have, as they are compared.
    pub excerpt: String,
}

/// Copies of one miner's responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The hotkey of the miner who answered first.
    pub originator: String,
    /// Who copied him, most copies first.
    pub copies: Vec<Copier>,
}

/// A miner who copied another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copier {
    /// His hotkey.
    pub miner: String,
    /// Responses that are copies of the originator's.
    pub responses: usize,
    /// Responses that he gave.
    pub of_responses: usize,
    /// Their mean evidence in bits.
    pub evidence: f64,
    /// How many there are of each kind.
    pub kinds: BTreeMap<String, usize>,
    /// The one with most evidence.
    pub proof: Proof,
}

/// What shows that a response is a copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// The prompt that both answered.
    pub prompt_id: String,
    /// The evidence in bits.
    pub evidence: f64,
    /// The longest run of words that both have, as they are compared.
    pub excerpt: String,
}

/// Looks for copies: one [`Copied`] for each response. `arrivals` are the round's.
pub(super) fn find(
    device: &Device,
    round: &Round,
    arrivals: &[Vec<u32>],
    history: &[Round],
    subnet: Option<&State>,
    bits: u32,
) -> Result<Vec<Copied>> {
    let mut all = vec![Copied::default(); round.responses().len()];
    if bits == 0 {
        return Ok(all);
    }
    let questions: Vec<Question<'_>> = round
        .prompts()
        .iter()
        .zip(arrivals)
        .map(|(prompt, arrivals)| Question {
            known: prompt.text.as_deref().into_iter().chain(prompt.reference.as_deref()).collect(),
            answers: arrivals.iter().map(|index| answer(&round.responses()[*index as usize])).collect(),
        })
        .collect();
    let present = Present::new(round);
    // The oldest first: rounds as they are given, and the responses of each as they arrived.
    let mut earlier: Vec<(&Round, &Response)> = Vec::new();
    for of in history {
        earlier.extend(of.arrivals().into_iter().flatten().map(|index| (of, &of.responses()[index as usize])));
    }
    let bank: Vec<Answer<'_>> = earlier
        .iter()
        .map(|(of, row)| Answer { text: &row.text, miner: present.index(of, row).unwrap_or(NOBODY) })
        .collect();

    let findings = copies::copies(device, &questions, &bank, bits)?;
    let owners = Owners::new(subnet);
    for (arrivals, findings) in arrivals.iter().zip(findings) {
        for (response, finding) in arrivals.iter().zip(findings) {
            let row = &round.responses()[*response as usize];
            let source = finding.source.map(|source| match source {
                Source::Answer(at) => (round, &round.responses()[arrivals[at] as usize], false),
                Source::Earlier(at) => (earlier[at].0, earlier[at].1, true),
            });
            all[*response as usize] = copied(finding, (round, row), source, &owners, bits);
        }
    }
    Ok(all)
}

fn answer(row: &Response) -> Answer<'_> {
    Answer { text: &row.text, miner: row.miner }
}

fn copied(
    finding: Finding,
    (round, row): (&Round, &Response),
    source: Option<(&Round, &Response, bool)>,
    owners: &Owners<'_>,
    bits: u32,
) -> Copied {
    let certainty = f64::from(finding.certainty(bits)) / 65_536.0;
    let copy = source.filter(|_| finding.counts(bits)).map(|(of, source, history)| {
        let (kind, excerpt) = copies::compare(&row.text, &source.text);
        let (own, theirs) = (hotkey(round, row.miner), hotkey(of, source.miner));
        Copy {
            of: theirs.to_owned(),
            prompt_id: of.prompt_of(source).map_or_else(String::new, |prompt| prompt.id.clone()),
            history,
            kind: if owners.are_one(own, theirs) { "same_coldkey" } else { kind.name() },
            excerpt,
        }
    });
    Copied { evidence: finding.bits(), certainty, copy }
}

/// Coldkeys by hotkey, where the subnet's state has them.
struct Owners<'a>(HashMap<&'a str, &'a str>);

impl<'a> Owners<'a> {
    fn new(subnet: Option<&'a State>) -> Self {
        let pairs = subnet.into_iter().flat_map(|subnet| subnet.hotkeys.iter().zip(&subnet.coldkeys));
        Self(pairs.map(|(hotkey, coldkey)| (hotkey.as_str(), coldkey.as_str())).collect())
    }

    fn are_one(&self, miner: &str, other: &str) -> bool {
        self.0.get(miner).is_some_and(|coldkey| self.0.get(other) == Some(coldkey))
    }
}

/// A response that counts as a copy.
struct Found<'a> {
    row: &'a Response,
    evidence: f64,
    copy: &'a Copy,
}

/// The copies by originator: who is copied most comes first.
pub(super) fn clusters(round: &Round, copied: &[&Copied]) -> Vec<Cluster> {
    let mut answered: HashMap<u32, usize> = HashMap::new();
    let mut pairs: BTreeMap<(&str, u32), Vec<Found<'_>>> = BTreeMap::new();
    for (row, copied) in round.responses().iter().zip(copied) {
        *answered.entry(row.miner).or_default() += 1;
        if let Some(copy) = &copied.copy {
            pairs.entry((&copy.of, row.miner)).or_default().push(Found { row, evidence: copied.evidence, copy });
        }
    }
    let mut clusters: BTreeMap<&str, Vec<Copier>> = BTreeMap::new();
    for ((originator, miner), copies) in &pairs {
        let mut kinds = BTreeMap::new();
        copies.iter().for_each(|found| *kinds.entry(found.copy.kind.to_owned()).or_default() += 1);
        let Some(surest) = copies.iter().min_by(|a, b| {
            let prompt = |found: &Found<'_>| round.prompt_of(found.row).map(|prompt| &prompt.id);
            b.evidence.total_cmp(&a.evidence).then_with(|| prompt(a).cmp(&prompt(b)))
        }) else {
            continue;
        };
        clusters.entry(*originator).or_default().push(Copier {
            miner: hotkey(round, *miner).to_owned(),
            responses: copies.len(),
            of_responses: answered.get(miner).copied().unwrap_or(0),
            evidence: copies.iter().map(|found| found.evidence).sum::<f64>() / copies.len() as f64,
            kinds,
            proof: Proof {
                prompt_id: round.prompt_of(surest.row).map_or_else(String::new, |prompt| prompt.id.clone()),
                evidence: surest.evidence,
                excerpt: surest.copy.excerpt.clone(),
            },
        });
    }
    let mut clusters: Vec<Cluster> = clusters
        .into_iter()
        .map(|(originator, mut copies)| {
            copies.sort_by(|a, b| b.responses.cmp(&a.responses).then_with(|| a.miner.cmp(&b.miner)));
            Cluster { originator: originator.to_owned(), copies }
        })
        .collect();
    let size = |cluster: &Cluster| cluster.copies.iter().map(|copier| copier.responses).sum::<usize>();
    clusters.sort_by_key(|cluster| std::cmp::Reverse(size(cluster)));
    clusters
}
