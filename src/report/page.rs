//! The page: what stands where, in HTML that needs nothing but itself.

use std::collections::{HashMap, HashSet};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Cluster, Copycat, FEW, History, Miner, Neuron, Report, Scored, Subnet, chart, copycats, order};
use crate::data::harmless;
use crate::pipeline::Similarity;
use crate::pipeline::audit::{Audit, CopiedRow};

const STYLE: &str = include_str!("style.css");

/// Nothing may be loaded and nothing run, whatever somebody may have got into the page.
const POLICY: &str = include_str!("policy.txt");

/// Rows of a table before the others are folded away.
const ROWS: usize = 50;

/// Copycats at the top of the page.
const HEADED: usize = 12;

/// Validators whose weights are drawn, and miners in the drawing.
const DRAWN: (usize, usize) = (16, 48);

/// Characters of somebody else's text that are shown.
const SHOWN: usize = 200;

/// `value` in hundredths, with so many digits behind the point.
pub(super) fn percent(value: f64, digits: usize) -> String {
    format!("{:.digits$} %", value * 100.0)
}

/// Somebody else's text, made harmless and cut where it has no end.
pub(super) fn shown(text: &str) -> String {
    match text.chars().nth(SHOWN) {
        None => harmless(text),
        Some(_) => format!("{} ({} characters)", beginning(text), number(text.chars().count() as u64)),
    }
}

/// A name by its beginning and its end, where there is no room for more.
pub(super) fn short(name: &str) -> String {
    let letters: Vec<char> = harmless(&name.chars().take(SHOWN).collect::<String>()).chars().collect();
    let last: Vec<char> = name.chars().rev().take(4).collect();
    if letters.len() <= 20 {
        return letters.into_iter().collect();
    }
    let end: String = harmless(&last.into_iter().rev().collect::<String>()).chars().take(12).collect();
    format!("{}…{end}", letters[..10].iter().collect::<String>())
}

/// The beginning of somebody else's text.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => harmless(text),
        Some((end, _)) => harmless(&text[..end]) + "…",
    }
}

/// What a digest is known by.
fn start(digest: &str) -> String {
    harmless(&digest.chars().take(12).collect::<String>())
}

/// A name where it stands among words.
fn brief(text: &str) -> Markup {
    let (short, whole) = (short(text), shown(text));
    html! { bdi title=[(short != whole).then_some(&whole)] { (short) } }
}

/// A whole number with its thousands apart.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 miner", "2 miners".
fn count(value: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(value as u64), if value == 1 { one } else { many })
}

/// A hotkey or whatever a miner is called, whole for whoever hovers or copies.
fn name(text: &str) -> Markup {
    let whole = shown(text);
    html! { bdi.name title=[(whole.chars().count() > 20).then_some(&whole)] { (whole) } }
}

/// A share as a bar behind its number.
fn bar(share: f64, digits: usize, of: f64) -> Markup {
    let width = if of > 0.0 { (share / of * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    html! { td.number.bar style=(format!("--w:{width:.1}%")) { @if share > 0.0 { (percent(share, digits)) } @else { "–" } } }
}

/// What is wide scrolls in a box of its own, by keyboard too.
fn scroll(label: &str, content: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (content) } }
}

/// A table of `rows`, the first [`ROWS`] of them open.
fn folded<T>(caption: &str, what: &str, head: &Markup, rows: &[T], row: impl Fn(usize, &T) -> Markup) -> Markup {
    let table = |caption: &str, from: usize, rows: &[T]| {
        let body = html! {
            table {
                caption { (caption) }
                thead { (head) }
                tbody { @for (index, each) in rows.iter().enumerate() { (row(from + index, each)) } }
            }
        };
        scroll(caption, &body)
    };
    let (first, rest) = rows.split_at(rows.len().min(ROWS));
    html! {
        (table(caption, 0, first))
        @if !rest.is_empty() {
            details {
                summary { "The other " (number(rest.len() as u64)) " " (what) }
                (table(&format!("{caption}, continued"), ROWS, rest))
            }
        }
    }
}

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let found = copycats(&report.rounds);
    let title = title(report);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY.trim());
                meta name="generator" content=(concat!("tauscore ", env!("CARGO_PKG_VERSION")));
                link rel="icon" href="data:,";
                title { (title) " · tauscore" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.eyebrow { "tauscore report" }
                    h1 { (title) }
                    (facts(report))
                }
                main {
                    (verdict(report, &found))
                    @if let Some(history) = &report.history { (over_time(history)) }
                    @if let Some(subnet) = &report.subnet { (subnet_section(subnet)) }
                    @if let Some(audit) = &report.audit { (decentralisation(audit)) }
                    @for (index, round) in report.rounds.iter().enumerate() {
                        @match &round.validator {
                            None => (scored(round)),
                            Some(validator) => details.validator open[index == 0] {
                                summary { h2 { "What " (name(validator)) " found" } }
                                (scored(round))
                            },
                        }
                    }
                    (criteria(report))
                }
                footer {
                    p { "Written by tauscore " (env!("CARGO_PKG_VERSION")) " from " bdi { (shown(&report.source)) } ". This file is complete: it loads nothing and runs nothing." }
                }
            }
        }
    };
    page.into_string()
}

fn title(report: &Report) -> String {
    let miners: HashSet<&str> =
        report.rounds.iter().flat_map(|round| &round.miners).map(|miner| miner.miner.as_str()).collect();
    let subnet = report.subnet.as_ref().and_then(|subnet| subnet.netuid);
    match (subnet, report.rounds.len()) {
        (Some(netuid), 0) => format!("Subnet {netuid}"),
        (Some(netuid), _) => format!("Subnet {netuid}: {}", count(miners.len(), "miner", "miners")),
        (None, 0) if report.history.is_some() => "The record".to_owned(),
        (None, 0) => "A subnet's epoch".to_owned(),
        (None, _) => format!("A round of {}", count(miners.len(), "miner", "miners")),
    }
}

/// What it is, in a line.
fn facts(report: &Report) -> Markup {
    let mut facts: Vec<(&str, String)> = Vec::new();
    if let Some(subnet) = &report.subnet {
        if let Some(block) = subnet.block {
            facts.push(("block", number(block)));
        }
        facts.push(("uids", number(subnet.neurons.len() as u64)));
    }
    if report.rounds.len() > 1 {
        facts.push(("validators", number(report.rounds.len() as u64)));
    }
    let answers: usize = report.rounds.iter().flat_map(|round| &round.miners).map(|miner| miner.prompts).sum();
    if answers > 0 {
        facts.push(("answers judged", number(answers as u64)));
    }
    if let [round] = report.rounds.as_slice()
        && let Some(prompts) = round.prompts
    {
        facts.push(("prompts", number(prompts as u64)));
    }
    if let Some(history) = &report.history {
        facts.push(("entries", number(history.entries.len() as u64)));
    }
    if let Some((_, digest)) = report.rounds.iter().find_map(|round| round.criteria.as_ref()) {
        facts.push(("criteria", start(digest)));
    }
    html! { dl.facts { @for (label, value) in &facts { div { dt { (label) } dd { (value) } } } } }
}

/// Who hands in copies: what a person looks for first.
fn verdict(report: &Report, found: &[Copycat<'_>]) -> Markup {
    if report.rounds.iter().all(|round| round.copies.is_none()) {
        return html! {};
    }
    let many = found.iter().filter(|copycat| copycat.share() >= FEW).count();
    let (often, seldom) = found.split_at(many);
    html! {
        section.verdict.clear[often.is_empty()] aria-labelledby="copycats" {
            h2 id="copycats" {
                @match often.len() {
                    0 => "Nobody hands in copies",
                    1 => { span.mark aria-hidden="true" { "◆" } " 1 miner hands in copies" }
                    many => { span.mark aria-hidden="true" { "◆" } " " (many) " miners hand in copies" }
                }
            }
            @if !often.is_empty() {
                ol.copycats {
                    @for copycat in often.iter().take(HEADED) { (accused(copycat)) }
                }
                @if often.len() > HEADED {
                    details {
                        summary { "The other " (often.len() - HEADED) }
                        ol.copycats { @for copycat in &often[HEADED..] { (accused(copycat)) } }
                    }
                }
            }
            @if !seldom.is_empty() {
                p.note {
                    (count(seldom.len(), "more miner has", "more miners have")) " a copy now and then: "
                    @for (index, copycat) in seldom.iter().take(HEADED).enumerate() {
                        @if index > 0 { ", " } (brief(copycat.miner)) " (" (copycat.responses) " of " (copycat.of_responses) ")"
                    }
                    @if seldom.len() > HEADED { " and " (seldom.len() - HEADED) " others" }
                    "."
                }
            }
        }
    }
}

fn accused(copycat: &Copycat<'_>) -> Markup {
    html! {
        li style=(format!("--w:{:.1}%", copycat.share().min(1.0) * 100.0)) {
            span.who { (name(copycat.miner)) }
            b.much { (percent(copycat.share(), 0)) }
            span.whose {
                (copycat.responses) " of " (count(copycat.of_responses, "answer", "answers")) " copied from "
                @for (index, (originator, _)) in copycat.of.iter().take(2).enumerate() {
                    @if index > 0 { (if copycat.of.len() == 2 { " and " } else { ", " }) } (brief(originator))
                }
                @if copycat.of.len() > 2 { " and " (count(copycat.of.len() - 2, "other", "others")) }
            }
        }
    }
}

/// What was found in one round.
fn scored(round: &Scored) -> Markup {
    let found = copycats([round]);
    let often: HashSet<&str> =
        found.iter().filter(|copycat| copycat.share() >= FEW).map(|copycat| copycat.miner).collect();
    html! {
        section {
            @if round.validator.is_some() { h3 { "How they stand" } } @else { h2 { "How they stand" } }
            div.pair {
                figure {
                    figcaption { b { "Accuracy against novelty" } " Each miner a point; the upper right is best. " (legend(&often)) }
                    (chart::scatter(&round.miners, &often))
                }
                @if let Some(similarity) = &round.similarity { (likeness(round, similarity, &often)) }
            }
        }
        (ranking(round, &often))
        @if let Some(clusters) = &round.copies { (rings(round, clusters)) }
    }
}

fn legend(often: &HashSet<&str>) -> Markup {
    html! { @if !often.is_empty() { span.mark { "◆" } " hands in copies." } }
}

/// Weights, scores and what they are made of.
fn ranking(round: &Scored, often: &HashSet<&str>) -> Markup {
    let most = round.miners.iter().map(|miner| miner.weight).fold(0.0, f64::max);
    let by_uid = round.miners.iter().any(|miner| miner.uid.is_some());
    let head = html! {
        tr {
            th.number scope="col" { "#" }
            th scope="col" { "miner" }
            th.number scope="col" { "weight" }
            th.number scope="col" { "score" }
            th.number scope="col" { "accuracy" }
            th.number scope="col" { "95 % interval" }
            th.number scope="col" { "novelty" }
            th.number scope="col" { "copies" }
            th.number scope="col" { "answers" }
            @if by_uid { th.number scope="col" { "uid" } }
        }
    };
    let row = |index: usize, miner: &Miner| {
        let copying = often.contains(miner.miner.as_str());
        html! {
            tr.copying[copying] {
                td.number { (index + 1) }
                th scope="row" { @if copying { span.mark title="hands in copies" { "◆" } " " } (name(&miner.miner)) }
                (bar(miner.weight, 2, most))
                td.number { (format!("{:.4}", miner.score)) }
                td.number { (format!("{:.4}", miner.accuracy)) }
                td.number.soft { @if let Some([low, high]) = miner.accuracy_interval { (format!("{low:.3} – {high:.3}")) } @else { "–" } }
                td.number { (format!("{:.4}", miner.novelty)) }
                td.number { (miner.copies) }
                td.number { (miner.prompts) }
                @if by_uid { td.number { @if let Some(uid) = miner.uid { (uid) } @else { "–" } } }
            }
        }
    };
    html! {
        section {
            @if round.validator.is_some() { h3 { "Miners" } } @else { h2 { "Miners" } }
            (folded("Miners by score, the best first", "miners", &head, &round.miners, row))
        }
    }
}

/// The map of similarities: where there are too many miners, copycats and whom they copied come first, then the best.
fn likeness(round: &Scored, similarity: &Similarity, often: &HashSet<&str>) -> Markup {
    let mut pairs = HashSet::new();
    let mut concerned = HashSet::new();
    for of in round.copies.iter().flatten() {
        for copier in &of.copies {
            if copier.responses as f64 >= FEW * copier.of_responses as f64 {
                pairs.insert((copier.miner.as_str(), of.originator.as_str()));
                concerned.extend([copier.miner.as_str(), of.originator.as_str()]);
            }
        }
    }
    let all = similarity.miners.len();
    let mut members: Vec<usize> = (0..all).collect();
    members.sort_by_key(|member| !concerned.contains(similarity.miners[*member].as_str()));
    members.truncate(chart::MAPPED);
    members.sort_unstable();
    let at = |a: usize, b: usize| similarity.similarity[a.max(b)][a.min(b)].unwrap_or(0.0);
    let order: Vec<usize> =
        order::order(members.len(), |a, b| at(members[a], members[b])).into_iter().map(|leaf| members[leaf]).collect();
    if order.len() < 2 {
        return html! {};
    }
    let whole = round.miners.len();
    html! {
        figure.whole[order.len() > 18] {
            figcaption {
                b { "How alike they answer" }
                " Mean cosine of two miners' answers to the same prompt, who is alike beside each other: a ring of copies is a block."
                @if round.prompts.is_some_and(|prompts| prompts > similarity.prompts) { " By " (similarity.prompts) " prompts, spread evenly." }
                @if order.len() < whole { " " (order.len()) " of " (number(whole as u64)) " miners: copycats and whom they copied, then the best." }
            }
            (chart::heat_map(similarity, &order, &pairs, often))
        }
    }
}

/// Who copied whom, with what shows it.
fn rings(round: &Scored, clusters: &[Cluster]) -> Markup {
    let ring = |of: &Cluster| {
        let rows = html! {
            table.rings {
                caption { "Copies of " (name(&of.originator)) ", who answered first" }
                thead { tr {
                    th scope="col" { "copied by" }
                    th.number scope="col" { "answers" }
                    th scope="col" { "how" }
                    th.number scope="col" { "evidence" }
                } }
                @for copier in &of.copies { tbody {
                    tr {
                        th scope="row" { (name(&copier.miner)) }
                        td.number { (copier.responses) " of " (copier.of_responses) }
                        // A ledger has neither kinds nor evidence.
                        td {
                            @if copier.kinds.is_empty() { "–" }
                            @for (index, (kind, times)) in copier.kinds.iter().enumerate() {
                                @if index > 0 { ", " } (times) " " (shown(kind).replace('_', " "))
                            }
                        }
                        td.number {
                            @if copier.evidence > 0.0 { (format!("{:.0}", copier.evidence)) " bits" } @else { "–" }
                        }
                    }
                    @if !copier.proof.excerpt.is_empty() {
                        tr.proof { td.excerpt colspan="4" {
                            q { bdi { (beginning(&copier.proof.excerpt)) } } " " span.soft { "– in both answers to prompt " bdi { (shown(&copier.proof.prompt_id)) } }
                        } }
                    }
                } }
            }
        };
        scroll("Copies", &rows)
    };
    let (first, rest) = clusters.split_at(clusters.len().min(HEADED));
    html! {
        section {
            @if round.validator.is_some() { h3 { "Copies" } } @else { h2 { "Copies" } }
            @if clusters.is_empty() { p { "No answer counts as a copy." } }
            @for of in first { (ring(of)) }
            @if !rest.is_empty() {
                details {
                    summary { "Copies of the other " (count(rest.len(), "miner", "miners")) }
                    @for of in rest { (ring(of)) }
                }
            }
        }
    }
}

/// Weights against consensus, and who earns what.
fn subnet_section(subnet: &Subnet) -> Markup {
    let earns = |(_, neuron): &(usize, &Neuron)| neuron.emission > 0 || neuron.stake > 0.0;
    let mut earners: Vec<(usize, &Neuron)> = subnet.neurons.iter().enumerate().filter(earns).collect();
    earners.sort_by_key(|(_, neuron)| std::cmp::Reverse(neuron.emission));
    let most = |share: fn(&Neuron) -> f64| subnet.neurons.iter().map(share).fold(0.0, f64::max);
    let (incentive, dividends) = (most(|neuron| neuron.incentive), most(|neuron| neuron.dividends));
    let head = html! {
        tr {
            th.number scope="col" { "uid" }
            th scope="col" { "hotkey" }
            th.number scope="col" { "incentive" }
            th.number scope="col" { "dividends" }
            th.number scope="col" { "alpha" }
            th.number scope="col" { "stake" }
            th.number scope="col" { "consensus" }
            th.number scope="col" { "validator trust" }
        }
    };
    let row = |_: usize, (uid, neuron): &(usize, &Neuron)| {
        let some = |share: f64| if share > 0.0 { percent(share, 2) } else { "–".to_owned() };
        html! {
            tr {
                td.number { (uid) }
                th scope="row" { @if let Some(hotkey) = &neuron.hotkey { (name(hotkey)) } @else { "–" } }
                (bar(neuron.incentive, 2, incentive))
                (bar(neuron.dividends, 2, dividends))
                td.number { (format!("{:.4}", neuron.emission as f64 / 1e9)) }
                td.number { (some(neuron.stake)) }
                td.number { (some(neuron.consensus)) }
                td.number { (some(neuron.trust)) }
            }
        }
    };
    html! {
        section {
            h2 { "The epoch" }
            @if !subnet.rows.is_empty() { (consensus(subnet)) }
            figure {
                figcaption { b { "Incentive and dividends by uid" } " What miners earn stands above the line, what validators earn below it." }
                (chart::earnings(&subnet.neurons))
            }
            (folded("What each uid with stake or earnings earns, the most first", "uids", &head, &earners, row))
        }
    }
}

/// Each validator's row beside consensus.
fn consensus(subnet: &Subnet) -> Markup {
    let mut columns: Vec<u16> = (0..=u16::MAX)
        .zip(&subnet.neurons)
        .filter(|(uid, neuron)| {
            neuron.consensus > 0.0
                || subnet.rows.iter().any(|row| row.weights.iter().any(|(to, share)| to == uid && *share > 0.0))
        })
        .map(|(uid, _)| uid)
        .collect();
    let given: Vec<HashMap<u16, f64>> = subnet.rows.iter().map(|row| row.weights.iter().copied().collect()).collect();
    let all = columns.len();
    // By what anybody gives or the majority supports, the most first; then as they stand in the subnet.
    let height = |uid: &u16| {
        let consensus = subnet.neurons.get(usize::from(*uid)).map_or(0.0, |neuron| neuron.consensus);
        given.iter().filter_map(|row| row.get(uid)).copied().fold(consensus, f64::max)
    };
    let most = columns.iter().map(height).fold(0.0, f64::max).max(1e-6);
    columns.sort_by(|a, b| height(b).total_cmp(&height(a)));
    // Where there are many, those whose bars would not be seen go.
    columns.truncate(DRAWN.1.min(columns.partition_point(|uid| height(uid) > 0.02 * most).max(24)));
    columns.sort_unstable();
    html! {
        figure.across {
            figcaption {
                b { "Weights against consensus" }
                " A bar for each miner, by uid; the line across it is what the majority of stake supports, and what a validator gives beyond it ("
                i.swatch.cut-swatch {} ") is cut off. "
                @if all > columns.len() { "The " (columns.len()) " of " (all) " weighed uids with most weight. " }
                @if subnet.rows.len() > DRAWN.0 { "The " (DRAWN.0) " of " (subnet.rows.len()) " validators with most stake." }
            }
            ul.multiples {
                @for (row, given) in subnet.rows.iter().zip(&given).take(DRAWN.0) {
                    @if let Some(neuron) = subnet.neurons.get(usize::from(row.validator)) {
                        li {
                            p {
                                @match &neuron.hotkey { Some(hotkey) => (name(hotkey)), None => { "uid " (row.validator) } }
                                span.soft { " " (percent(neuron.stake, 1)) " of stake, validator trust " b { (percent(neuron.trust, 2)) } }
                            }
                            (chart::weights(&chart::neuron_name(neuron, row.validator), given, &subnet.neurons, &columns, most))
                        }
                    }
                }
            }
        }
    }
}

fn decentralisation(audit: &Audit) -> Markup {
    let mut sizes: Vec<usize> =
        audit.concentration.iter().flat_map(|each| each.largest.iter().map(|(size, _)| *size)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let ppm = |value: u32| f64::from(value) / 1e6;
    let body = html! {
        table {
            caption { "In how few hands it is" }
            thead { tr {
                th scope="col" { "of" }
                th.number scope="col" { "holders" }
                th.number scope="col" { "Gini" }
                th.number scope="col" { "Nakamoto" }
                @for size in &sizes { th.number scope="col" { "largest " (size) } }
            } }
            tbody { @for each in &audit.concentration { tr {
                th scope="row" { (shown(each.name)) }
                td.number { (number(each.holders as u64)) }
                td.number { (format!("{:.3}", ppm(each.gini_ppm))) }
                td.number { (each.nakamoto) }
                @for size in &sizes {
                    @match each.largest.iter().find(|(of, _)| of == size) {
                        Some((_, share)) => (bar(ppm(*share), 1, 1.0)),
                        None => td.number { "–" },
                    }
                }
            } } }
        }
    };
    let row = |_: usize, row: &CopiedRow| {
        html! { tr {
            td.number { (row.validator.uid) }
            th scope="row" { (name(&row.validator.hotkey)) }
            td { @match &row.of {
                Some(of) => { "uid " (of.uid) ", " (name(&of.hotkey)) }
                None => "the consensus of the epoch before",
            } }
            (bar(ppm(row.agreement_ppm), 2, 1.0))
            td.excerpt { bdi { (shown(&row.evidence)) } }
        } }
    };
    let head = html! { tr {
        th.number scope="col" { "uid" }
        th scope="col" { "validator" }
        th scope="col" { "has the row of" }
        th.number scope="col" { "agreement" }
        th scope="col" { "what shows it" }
    } };
    html! {
        section {
            h2 { "Decentralisation" }
            p.note { "Gini: 0 where all have the same, near 1 where one has all. Nakamoto: the fewest who together have more than half." }
            (scroll("Decentralisation", &body))
            @if audit.copied_rows.is_empty() { p { "No validator's row is a near-copy of another's." } }
            @else { (folded("Validators whose weights are near-copies", "rows", &head, &audit.copied_rows, row)) }
        }
    }
}

fn over_time(history: &History) -> Markup {
    let changes = history.entries.iter().filter(|entry| entry.changed).count();
    let entries: Vec<&super::HistoryEntry> = history.entries.iter().rev().collect();
    let head = html! { tr {
        th.number scope="col" { "entry" }
        th.number scope="col" { "block" }
        th.number scope="col" { "answers" }
        th.number scope="col" { "copies" }
        th scope="col" { "criteria" }
    } };
    let row = |_: usize, entry: &&super::HistoryEntry| {
        html! { tr {
            td.number { (number(entry.number)) }
            td.number { (number(entry.block)) }
            td.number { (number(entry.responses)) }
            td.number { (number(entry.copies)) }
            td { code { (start(&entry.criteria)) } @if entry.changed { " " b { "changed" } } }
        } }
    };
    html! {
        section {
            h2 { "Over the ledger" }
            @if history.entries.len() > 1 {
                figure {
                    figcaption {
                        b { "Who gets the weight" } " Shares of the weights of the " (chart::LEADERS) " who lead now."
                        @if changes > 0 { " An upright line: other criteria from here on; what is left of it is not to be compared with what is right of it." }
                    }
                    (chart::history(history))
                }
            }
            (folded("Entries, the newest first", "entries", &head, &entries, row))
        }
    }
}

/// What was judged by, and every digest.
fn criteria(report: &Report) -> Markup {
    let mut seen = HashSet::new();
    let criteria: Vec<&(String, String)> = report
        .rounds
        .iter()
        .filter_map(|round| round.criteria.as_ref())
        .filter(|(_, digest)| seen.insert(digest.as_str()))
        .collect();
    if criteria.is_empty() && report.digests.is_empty() {
        return html! {};
    }
    let body = html! {
        table {
            caption { "BLAKE3 unless said otherwise" }
            thead { tr { th scope="col" { "of" } th scope="col" { "digest" } } }
            tbody {
                @for (_, digest) in &criteria { tr { th scope="row" { "criteria" } td { code.digest { (shown(digest)) } } } }
                @for (label, digest) in &report.digests { tr { th scope="row" { (shown(label)) } td { code.digest { (shown(digest)) } } } }
            }
        }
    };
    html! {
        section {
            h2 { "Criteria and digests" }
            (scroll("Digests", &body))
            @for (text, digest) in &criteria {
                details {
                    summary { "The criteria " code { (start(digest)) } }
                    pre tabindex="0" { code { @for line in text.lines() { (shown(line)) "\n" } } }
                }
            }
        }
    }
}
