//! Drawings: scales, axes and the five charts, as SVG that takes its colours and letters from the page's style.
//!
//! Lengths are in units of a drawing 480 wide. What is small enough is named in the drawing; everything has a name to hover over, and each
//! drawing says in words what it shows.

use std::collections::{HashMap, HashSet};

use maud::{Markup, html};

use super::page::{percent, short, shown};
use super::{History, Miner, Neuron};
use crate::pipeline::Similarity;

/// How wide a drawing is.
const WIDTH: f64 = 480.0;

/// Miners in the map of similarities at most.
pub(super) const MAPPED: usize = 128;

/// How many of them have their names beside it.
const NAMED: usize = 48;

/// Shades of the map.
const SHADES: f64 = 8.0;

/// How wide a letter is beside its height, about.
const LETTER: f64 = 0.56;

/// From values to places.
#[derive(Clone, Copy)]
struct Scale {
    values: [f64; 2],
    places: [f64; 2],
}

impl Scale {
    fn new(values: [f64; 2], places: [f64; 2]) -> Self {
        let [low, high] = values;
        Self { values: if high > low { values } else { [low - 0.5, high + 0.5] }, places }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value - self.values[0]) / (self.values[1] - self.values[0]);
        self.places[0] + share * (self.places[1] - self.places[0])
    }

    /// Round values, about `count` of them.
    fn ticks(&self, count: f64) -> Vec<f64> {
        let rough = (self.values[1] - self.values[0]) / count;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= 0.999 * rough);
        let step = step.unwrap_or(rough);
        let first = (self.values[0] / step - 1e-9).ceil();
        let ticks = (0..100).map(|tick| (first + f64::from(tick)) * step);
        ticks.take_while(|tick| *tick <= self.values[1] + 1e-9 * step).map(|tick| tick + 0.0).collect()
    }
}

/// A length, to a tenth.
fn u(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A drawing and what it shows, in words.
fn drawing(height: f64, label: &str, body: &Markup) -> Markup {
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (u(height)) } role="img" aria-label=(label) { (body) }
    }
}

fn line(class: &str, [x1, y1, x2, y2]: [f64; 4]) -> Markup {
    html! { line class=(class) x1=(u(x1)) y1=(u(y1)) x2=(u(x2)) y2=(u(y2)) {} }
}

fn text(class: &str, [x, y]: [f64; 2], content: &str) -> Markup {
    html! { text class=(class) x=(u(x)) y=(u(y)) { (content) } }
}

/// The two axes with their ticks as percentages.
fn axes(x: &Scale, y: &Scale, [below, beside]: [&str; 2]) -> Markup {
    let ([left, right], [bottom, top]) = (x.places, y.places);
    html! {
        @for tick in y.ticks(6.0) {
            (line("grid", [left, y.at(tick), right, y.at(tick)]))
            (text("tick end", [left - 6.0, y.at(tick) + 4.0], &percent(tick, 0)))
        }
        @for tick in x.ticks(5.0) {
            (line("grid", [x.at(tick), bottom, x.at(tick), bottom + 4.0]))
            (text("tick mid", [x.at(tick), bottom + 18.0], &percent(tick, 0)))
        }
        (line("axis", [left, bottom, right, bottom]))
        (text("name mid", [f64::midpoint(left, right), bottom + 38.0], below))
        (text("name", [left - 44.0, top - 12.0], beside))
    }
}

/// The mark of a copycat: a diamond.
fn diamond([x, y]: [f64; 2], size: f64) -> String {
    format!("M{} {}l{size} {size}l-{size} {size}l-{size} -{size}z", u(x), u(y - size))
}

/// A rectangle that is taken: left, top, right, bottom.
type Taken = [f64; 4];

/// Finds room for a text beside a point: x, y and the class of its anchor.
fn room(
    taken: &mut Vec<Taken>,
    [x, y]: [f64; 2],
    [width, height]: [f64; 2],
    bounds: Taken,
) -> Option<(f64, f64, &'static str)> {
    let places = [
        (x + 8.0, y + height / 3.0, "", x + 8.0),
        (x - 8.0, y + height / 3.0, " end", x - 8.0 - width),
        (x, y - 9.0, " mid", x - width / 2.0),
        (x, y + height + 5.0, " mid", x - width / 2.0),
    ];
    for (at_x, at_y, anchor, left) in places {
        let place = [left, at_y - height * 0.8, left + width, at_y + height * 0.2];
        let inside = place[0] >= bounds[0] && place[1] >= bounds[1] && place[2] <= bounds[2] && place[3] <= bounds[3];
        let free = |other: &Taken| {
            place[2] <= other[0] || place[0] >= other[2] || place[3] <= other[1] || place[1] >= other[3]
        };
        if inside && taken.iter().all(free) {
            taken.push(place);
            return Some((at_x, at_y, anchor));
        }
    }
    None
}

/// Accuracy against novelty: each miner a point.
pub(super) fn scatter(miners: &[Miner], copycats: &HashSet<&str>) -> Markup {
    const HEIGHT: f64 = 380.0;
    let accuracies = miners.iter().map(|miner| miner.accuracy);
    let low = accuracies.clone().fold(f64::INFINITY, f64::min);
    let high = accuracies.fold(f64::NEG_INFINITY, f64::max);
    let pad = ((high - low) * 0.12).max(0.01);
    let widest = miners.iter().map(|miner| miner.novelty).fold(0.0, f64::max);
    let right = (widest * 1.12).clamp(0.05, 1.02);
    let x = Scale::new([-0.03 * right, right], [58.0, WIDTH - 22.0]);
    let y = Scale::new([(low - pad).max(0.0), (high + pad).min(1.0)], [HEIGHT - 48.0, 30.0]);
    let place = |miner: &Miner| [x.at(miner.novelty), y.at(miner.accuracy)];
    let mut taken: Vec<Taken> = miners.iter().map(place).map(|[x, y]| [x - 5.0, y - 5.0, x + 5.0, y + 5.0]).collect();
    let bounds = [x.places[0] - 2.0, 22.0, WIDTH, y.places[0]];
    // Some copycats first, in the large letters of narrow screens; then who has room on wide screens, the best first, in small ones.
    let (copying, others): (Vec<&Miner>, Vec<&Miner>) =
        miners.iter().partition(|miner| copycats.contains(miner.miner.as_str()));
    let mut names = Vec::new();
    let mut named = HashSet::new();
    for (group, class, height, most) in
        [(&copying, "copy-name", 15.0, 6), (&copying, "copy-name small", 11.0, 24), (&others, "point-name", 11.0, 24)]
    {
        for miner in group.iter().take(most) {
            let name = short(&miner.miner);
            if named.contains(miner.miner.as_str()) {
                continue;
            }
            let width = name.chars().count() as f64 * height * LETTER;
            if let Some((at_x, at_y, anchor)) = room(&mut taken, place(miner), [width, height], bounds) {
                named.insert(miner.miner.as_str());
                names.push(text(&format!("{class}{anchor}"), [at_x, at_y], &name));
            }
        }
    }
    let about = |miner: &Miner| {
        let (accuracy, novelty) = (percent(miner.accuracy, 1), percent(miner.novelty, 1));
        let copies =
            if miner.copies > 0 { format!(", {} of {} copies", miner.copies, miner.prompts) } else { String::new() };
        format!("{}: accuracy {accuracy}, novelty {novelty}{copies}", shown(&miner.miner))
    };
    // Thousands of names would be most of the page.
    let hover = others.len() <= 512;
    let label = format!(
        "Scatter plot of accuracy against novelty for {} miners; {} of them, who hand in copies, are diamonds.",
        miners.len(),
        copying.len()
    );
    drawing(
        HEIGHT,
        &label,
        &html! {
            (axes(&x, &y, ["novelty", "accuracy"]))
            @for miner in &others {
                @let [x, y] = place(miner);
                circle class="point" cx=(u(x)) cy=(u(y)) r=(if hover { "4.5" } else { "2.5" }) { @if hover { title { (about(miner)) } } }
            }
            @for miner in &copying {
                path class="copy" d=(diamond(place(miner), 6.0)) { title { (about(miner)) } }
            }
            @for name in &names { (name) }
        },
    )
}

/// The map of similarities: `members` are indices of its miners in the order of rows and columns, `copies` pairs of which one copies the
/// other.
pub(super) fn heat_map(
    similarity: &Similarity,
    members: &[usize],
    copies: &HashSet<(&str, &str)>,
    copycats: &HashSet<&str>,
) -> Markup {
    let n = members.len();
    let at = |a: usize, b: usize| {
        let row = similarity.similarity.get(a.max(b)).and_then(|row| row.get(a.min(b)));
        row.copied().flatten()
    };
    let name = |member: usize| similarity.miners.get(members[member]).map_or("", String::as_str);
    let pairs = || (0..n).flat_map(|row| (0..row).map(move |column| (row, column)));
    // What is least alike differs little: shades are for the rest.
    let mut values: Vec<f64> = pairs().filter_map(|(row, column)| at(members[row], members[column])).collect();
    values.sort_by(f64::total_cmp);
    let low = values.get(values.len() / 8).copied().unwrap_or(0.0).min(0.99);
    let shade = |value: f64| ((value - low) / (1.0 - low) * SHADES).round().clamp(0.0, SHADES) as usize;
    let is_copy = |row: usize, column: usize| {
        copies.contains(&(name(row), name(column))) || copies.contains(&(name(column), name(row)))
    };
    let named = n <= NAMED;
    let few = n <= 18;
    let letters = if few { 15.0 } else { 6.8 };
    let longest = (0..n).map(|member| short(name(member)).chars().count()).max().unwrap_or(0);
    let left = if named { (longest as f64 * letters * (LETTER + 0.06) + 17.0).min(210.0) } else { 14.0 };
    let cell = (WIDTH - left - 2.0) / n as f64;
    let place = |index: usize| left + cell * index as f64;
    let top = |index: usize| 2.0 + cell * index as f64;
    // Many cells are one path a shade, not an element each.
    let mut shades: Vec<[String; 2]> = vec![[String::new(), String::new()]; SHADES as usize + 1];
    let mut cells = Vec::new();
    for (row, column) in (0..n).flat_map(|row| (0..n).map(move |column| (row, column))) {
        let Some(value) = (if row == column { Some(1.0) } else { at(members[row], members[column]) }) else { continue };
        let (copy, shade) = (is_copy(row, column), shade(value));
        if few {
            cells.push((row, column, value, copy, shade));
        } else {
            shades[shade][usize::from(copy)] += &format!("M{} {}h1v1h-1z", column, row);
        }
    }
    let label = format!(
        "Heat map of how alike {n} miners answer, from {low:.2} and below (light) to 1 (dark), those alike beside each other; pairs of which one copies the other are in the colour of copies."
    );
    let map = html! {
        @for (row, column, value, copy, shade) in &cells {
            @let class = format!("{}q{shade}", if *copy { "is-copy " } else { "" });
            rect class=(class) x=(u(place(*column))) y=(u(top(*row))) width=(u(cell)) height=(u(cell)) {
                title { (short(name(*row))) " and " (short(name(*column))) ": " (format!("{value:.3}")) @if *copy { ", copies" } }
            }
            @if n <= 10 && row != column {
                text class=(format!("cell mid{}", if *shade > 5 || *copy && *shade > 3 { " light" } else { "" }))
                    x=(u(place(*column) + cell / 2.0)) y=(u(top(*row) + cell / 2.0 + 4.0)) { (format!("{value:.2}").trim_start_matches('0')) }
            }
        }
        @if !few {
            g transform={ "translate(" (u(left)) " 2) scale(" (format!("{cell:.4}")) ")" } {
                @for (shade, [other, copy]) in shades.iter().enumerate() {
                    @if !other.is_empty() { path class={ "q" (shade) } d=(other) {} }
                    @if !copy.is_empty() { path class={ "is-copy q" (shade) } d=(copy) {} }
                }
            }
        }
        @for member in 0..n {
            @let middle = top(member) + cell / 2.0;
            @let copying = copycats.contains(name(member));
            @if copying { path class="copy" d=(diamond([left - 7.0, middle], (cell / 2.0 - 0.2).min(5.0))) { title { (short(name(member))) } } }
            @if named {
                text class=(format!("end {}{}", if few { "row-name" } else { "small-name" }, if copying { " copying" } else { "" }))
                    x=(u(left - 15.0)) y=(u(middle + letters * 0.35)) { (short(name(member))) }
            }
        }
    };
    let svg = drawing(cell * n as f64 + 4.0, &label, &map);
    html! {
        div.scroll.wide[named && !few] tabindex=[(named && !few).then_some("0")] { (svg) }
        div.legend {
            span { (format!("{low:.2} and below")) }
            span.ramp aria-hidden="true" { @for shade in 0..=SHADES as usize { i class={ "r" (shade) } {} } }
            span { "1.00, the same" }
            @if pairs().any(|(row, column)| is_copy(row, column)) { span { i.swatch {} " copies" } span { span.mark { "◆" } " hands in copies" } }
        }
    }
}

/// A validator's weights against consensus: a bar a miner, filled up to consensus, hollow above, with consensus as a line across.
/// `columns` are uids, `most` is the largest share to be drawn.
pub(super) fn weights(
    who: &str,
    weights: &HashMap<u16, f64>,
    neurons: &[Neuron],
    columns: &[u16],
    most: f64,
) -> Markup {
    const HEIGHT: f64 = 84.0;
    let y = Scale::new([0.0, most], [HEIGHT - 18.0, 4.0]);
    let pitch = (WIDTH - 4.0) / columns.len().max(1) as f64;
    let bar = (pitch * 0.62).min(30.0);
    let label = format!("Weights of {who} against consensus, {} miners.", columns.len());
    drawing(
        HEIGHT,
        &label,
        &html! {
            (line("axis", [2.0, y.at(0.0), WIDTH - 2.0, y.at(0.0)]))
            @for (index, uid) in columns.iter().enumerate() {
                @let middle = 2.0 + pitch * (index as f64 + 0.5);
                @let (given, consensus) = (weights.get(uid).copied().unwrap_or(0.0), neurons.get(usize::from(*uid)).map_or(0.0, |neuron| neuron.consensus));
                @let kept = given.min(consensus);
                g {
                    title {
                        (neurons.get(usize::from(*uid)).map_or(String::new(), |neuron| neuron_name(neuron, *uid)))
                        ": " (percent(given, 2)) ", consensus " (percent(consensus, 2))
                    }
                    @if kept > 0.0 { rect class="bar" x=(u(middle - bar / 2.0)) y=(u(y.at(kept))) width=(u(bar)) height=(u(y.at(0.0) - y.at(kept))) {} }
                    // What rounds away is not cut off.
                    @if given - kept > 1e-4 { rect class="cut" x=(u(middle - bar / 2.0)) y=(u(y.at(given))) width=(u(bar)) height=(u(y.at(kept) - y.at(given))) {} }
                    (line("consensus", [middle - pitch * 0.44, y.at(consensus), middle + pitch * 0.44, y.at(consensus)]))
                }
                @if columns.len() <= 24 {
                    (text(if columns.len() <= 12 { "tick mid" } else { "tick uid mid" }, [middle, HEIGHT - 4.0], &uid.to_string()))
                }
            }
        },
    )
}

pub(super) fn neuron_name(neuron: &Neuron, uid: u16) -> String {
    neuron.hotkey.as_deref().map_or_else(|| format!("uid {uid}"), short)
}

/// What each uid earns: incentive upwards, dividends downwards.
pub(super) fn earnings(neurons: &[Neuron]) -> Markup {
    const HEIGHT: f64 = 256.0;
    let most = |share: fn(&Neuron) -> f64| neurons.iter().map(share).fold(0.0, f64::max);
    let (incentive, dividends) = (most(|neuron| neuron.incentive), most(|neuron| neuron.dividends));
    let (up, down) =
        (Scale::new([0.0, incentive.max(1e-6)], [116.0, 22.0]), Scale::new([0.0, dividends.max(1e-6)], [116.0, 210.0]));
    let x = Scale::new([-0.5, neurons.len() as f64 - 0.5], [58.0, WIDTH - 4.0]);
    let bar = ((WIDTH - 62.0) / neurons.len().max(1) as f64 * 0.7).min(22.0);
    let label = format!(
        "Incentive (upwards, at most {}) and dividends (downwards, at most {}) of {} uids.",
        percent(incentive, 1),
        percent(dividends, 1),
        neurons.len()
    );
    drawing(
        HEIGHT,
        &label,
        &html! {
            (text("name", [2.0, 12.0], "incentive"))
            (text("name", [2.0, HEIGHT - 26.0], "dividends"))
            @for (scale, most) in [(up, incentive), (down, dividends)] {
                @for tick in scale.ticks(3.0).into_iter().skip(1) {
                    (line("grid", [58.0, scale.at(tick), WIDTH - 4.0, scale.at(tick)]))
                    (text("tick end", [52.0, scale.at(tick) + 4.0], &percent(tick, usize::from(most < 0.05))))
                }
            }
            @for (uid, neuron) in neurons.iter().enumerate() {
                @let middle = x.at(uid as f64);
                @let title = format!("uid {uid}, {}: incentive {}, dividends {}", neuron_name(neuron, uid as u16), percent(neuron.incentive, 2), percent(neuron.dividends, 2));
                @if neuron.incentive > 0.0 {
                    rect class="bar" x=(u(middle - bar / 2.0)) y=(u(up.at(neuron.incentive))) width=(u(bar)) height=(u(116.0 - up.at(neuron.incentive))) { title { (title) } }
                }
                @if neuron.dividends > 0.0 {
                    rect class="hollow" x=(u(middle - bar / 2.0)) y="116" width=(u(bar)) height=(u(down.at(neuron.dividends) - 116.0)) { title { (title) } }
                }
            }
            (line("axis", [58.0, 116.0, WIDTH - 4.0, 116.0]))
            @for tick in x.ticks(8.0) {
                // A uid is a whole number.
                @if tick >= 0.0 && tick.fract() == 0.0 { (text("tick mid", [x.at(tick), HEIGHT - 6.0], &format!("{tick:.0}"))) }
            }
            (text("tick end", [52.0, 120.0], "uid"))
        },
    )
}

/// How many miners have a line of their own.
pub(super) const LEADERS: usize = 6;

/// Shares of the weights over the entries of a ledger, for who leads in the last one.
pub(super) fn history(history: &History) -> Markup {
    const HEIGHT: f64 = 280.0;
    let shares: Vec<HashMap<&str, f64>> = history
        .entries
        .iter()
        .map(|entry| {
            let sum: u64 = entry.weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
            let share = |weight: &u16| f64::from(*weight) / sum.max(1) as f64;
            entry.weights.iter().map(|(hotkey, weight)| (hotkey.as_str(), share(weight))).collect()
        })
        .collect();
    let mut leaders: Vec<(&str, f64)> =
        shares.last().into_iter().flatten().map(|(hotkey, share)| (*hotkey, *share)).collect();
    leaders.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    leaders.truncate(LEADERS);
    let of_leaders =
        || leaders.iter().flat_map(|(hotkey, _)| shares.iter().filter_map(move |of| of.get(hotkey).copied()));
    let numbers =
        [history.entries.first(), history.entries.last()].map(|entry| entry.map_or(0.0, |entry| entry.number as f64));
    let x = Scale::new(numbers, [58.0, WIDTH - 176.0]);
    let y = Scale::new([0.0, of_leaders().fold(0.0, f64::max).max(1e-3) * 1.08], [HEIGHT - 48.0, 30.0]);
    let points = |hotkey: &str| -> String {
        // A line breaks where somebody has no weight.
        let mut path = String::new();
        let mut pen = 'M';
        for (entry, of) in history.entries.iter().zip(&shares) {
            match of.get(hotkey) {
                Some(share) => {
                    path += &format!("{pen}{} {}", u(x.at(entry.number as f64)), u(y.at(*share)));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        path
    };
    // Names at the ends of the lines, moved apart.
    let mut ends: Vec<(f64, usize)> =
        leaders.iter().enumerate().map(|(index, (_, share))| (y.at(*share), index)).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    for index in 1..ends.len() {
        ends[index].0 = ends[index].0.max(ends[index - 1].0 + 15.0);
    }
    let label = format!(
        "Shares of the weights over {} entries for the {} miners who lead in the last one.",
        history.entries.len(),
        leaders.len()
    );
    drawing(
        HEIGHT,
        &label,
        &html! {
            @for tick in y.ticks(4.0) {
                (line("grid", [58.0, y.at(tick), WIDTH - 176.0, y.at(tick)]))
                (text("tick end", [52.0, y.at(tick) + 4.0], &percent(tick, usize::from(y.values[1] < 0.05))))
            }
            @for tick in x.ticks(4.0) {
                @if tick.fract() == 0.0 { (text("tick mid", [x.at(tick), HEIGHT - 30.0], &format!("{tick:.0}"))) }
            }
            (line("axis", [58.0, HEIGHT - 48.0, WIDTH - 176.0, HEIGHT - 48.0]))
            (text("name mid", [f64::midpoint(58.0, WIDTH - 176.0), HEIGHT - 10.0], "entry"))
            (text("name", [2.0, 14.0], "share of the weights"))
            @for entry in history.entries.iter().filter(|entry| entry.changed) {
                g { title { "entry " (entry.number) ": other criteria" } (line("rule", [x.at(entry.number as f64), 26.0, x.at(entry.number as f64), HEIGHT - 48.0])) }
            }
            @for (index, (hotkey, _)) in leaders.iter().enumerate() {
                path class={ "line l" (index) } d=(points(hotkey)) { title { (short(hotkey)) } }
            }
            @for (at, index) in &ends { (text("line-name", [WIDTH - 168.0, at + 4.0], &short(leaders[*index].0))) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let ticks = |low, high| Scale::new([low, high], [0.0, 100.0]).ticks(5.0);
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0], "fifths");
        assert_eq!(ticks(0.83, 0.88).len(), 6, "hundredths");
        assert!(ticks(3.0, 3.0).iter().all(|tick| (2.5..=3.5).contains(tick)), "one value has room around it");
        assert!(ticks(f64::NAN, 1.0).len() <= 100, "it ends");
    }

    #[test]
    fn names_stand_apart_and_inside() {
        let bounds = [0.0, 0.0, 200.0, 100.0];
        let mut taken = Vec::new();
        let found: Vec<_> = (0..6).map(|_| room(&mut taken, [100.0, 50.0], [60.0, 12.0], bounds)).collect();
        assert!(
            found[..4].iter().all(Option::is_some) && found[4..].iter().all(Option::is_none),
            "four sides: {found:?}"
        );
        for (index, a) in taken.iter().enumerate() {
            assert!(a[0] >= 0.0 && a[2] <= 200.0, "{a:?}");
            for b in &taken[..index] {
                assert!(a[2] <= b[0] || a[0] >= b[2] || a[3] <= b[1] || a[1] >= b[3], "{a:?} on {b:?}");
            }
        }
    }
}
