//! From what a language model says of the responses to one prompt to their accuracies: each stands against the others.
//!
//! Source: the recommended default of the project's study of reference losses. A gain is in nats per token, and some prompts allow
//! larger gains than others; so what counts is its distance to the median of the prompt's responses, clipped so that no single prompt
//! decides. Text that the model finds absurd (a robust z-score of its loss beyond the gate) is worth nothing, nor is what only repeats itself or the prompt.
#![expect(clippy::float_arithmetic, reason = "a language model's losses are floats, and they end in the score")]

/// What is known of one response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// Which of the prompt's distinct texts it is: equal texts have equal numbers.
    pub text: usize,
    /// Whether it is a copy of another response: then it says nothing of what is usual.
    pub copy: bool,
    /// Whether it says nothing of its own ([`is_hollow`](super::is_hollow)), which is worth nothing unless most are like that.
    pub hollow: bool,
    /// How much better than without it, in nats.
    pub gain: f64,
    /// Mean loss of the response itself, given the prompt, in nats per token; `None` for no token at all, which is worth nothing.
    pub surprise: Option<f64>,
}

/// Fewer distinct responses than these tell nothing of what is usual: then none is beyond the gate.
const FEWEST: usize = 5;

/// What the median of absolute deviations is of the standard deviation, in a normal distribution.
const NORMAL: f64 = 1.4826;

/// The accuracy in [0, 1] of each response to one prompt: 0.5 + d / (2 `clip`), where d is the gain's distance to the median of the
/// distinct ones within the gate that are no copies (of all of them if there are only copies), clipped to +-`clip` (nats). An empty response, one whose surprise is more than `gate` robust
/// standard deviations above the median, and a hollow one where no more than half of the distinct ones are, is worth 0.
pub fn accuracies(responses: &[Signal], clip: f64, gate: f64) -> Vec<f64> {
    let mut distinct: Vec<&Signal> = responses.iter().filter(|response| response.surprise.is_some()).collect();
    distinct.sort_by_key(|response| response.text);
    distinct.dedup_by_key(|response| response.text);
    if distinct.iter().any(|response| !response.copy) {
        distinct.retain(|response| !response.copy);
    }
    let limit = limit(distinct.iter().filter_map(|response| response.surprise).collect(), gate);
    let hollow = distinct.iter().filter(|response| response.hollow).count();
    let may_be_hollow = 2 * hollow > distinct.len();
    let counts = |response: &Signal| {
        response.surprise.is_some_and(|surprise| surprise <= limit) && (may_be_hollow || !response.hollow)
    };
    let gains = distinct.into_iter().filter(|response| counts(response)).map(|response| response.gain).collect();
    let Some(usual) = median(gains) else { return vec![0.0; responses.len()] };
    let accuracy = |response: &Signal| {
        if counts(response) { 0.5 + (response.gain - usual).clamp(-clip, clip) / (2.0 * clip) } else { 0.0 }
    };
    responses.iter().map(accuracy).collect()
}

/// The largest surprise within the gate.
fn limit(surprises: Vec<f64>, gate: f64) -> f64 {
    if surprises.len() < FEWEST {
        return f64::INFINITY;
    }
    let Some(usual) = median(surprises.clone()) else { return f64::INFINITY };
    match median(surprises.iter().map(|surprise| (surprise - usual).abs()).collect()) {
        Some(deviation) if deviation > 0.0 => usual + gate * NORMAL * deviation,
        _ => f64::INFINITY,
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (below, at) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((below + at) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(all: &[(usize, f64, f64)]) -> Vec<Signal> {
        all.iter()
            .map(|(text, gain, surprise)| Signal {
                text: *text,
                copy: false,
                hollow: false,
                gain: *gain,
                surprise: Some(*surprise),
            })
            .collect()
    }

    #[test]
    fn responses_stand_against_the_median_of_the_distinct_ones() {
        // A text that many copy does not move the median.
        let all = signals(&[(0, 0.1, 2.0), (1, 0.25, 2.0), (2, 0.4, 2.0), (2, 0.4, 2.0), (2, 0.4, 2.0)]);
        let found = accuracies(&all, 0.3, 6.0);
        let right = [0.25, 0.5, 0.75, 0.75, 0.75];
        assert!(found.iter().zip(right).all(|(found, right)| (found - right).abs() < 1e-12), "{found:?}");
        assert_eq!(accuracies(&signals(&[(0, -7.0, 1.0)]), 0.3, 6.0), [0.5], "a single response is usual");
        // Nor do copies that were edited, but they are judged.
        let mut with = all.clone();
        with.extend(
            signals(&[(3, 0.11, 2.0), (4, 0.12, 2.0), (5, 0.13, 2.0)])
                .iter()
                .map(|edited| Signal { copy: true, ..*edited }),
        );
        let with = accuracies(&with, 0.3, 6.0);
        assert_eq!(with[..5], found[..], "as if they were not there");
        assert!((with[5] - (0.5 - 0.14 / 0.6)).abs() < 1e-12, "{with:?}");
        let copies: Vec<Signal> = all.iter().map(|signal| Signal { copy: true, ..*signal }).collect();
        assert_eq!(accuracies(&copies, 0.3, 6.0), found, "nothing but copies");
        let far = accuracies(&signals(&[(0, -9.0, 1.0), (1, 0.0, 1.0), (2, 9.0, 1.0)]), 0.3, 6.0);
        assert_eq!(far, [0.0, 0.5, 1.0], "clipped");
        assert!(accuracies(&[], 0.3, 6.0).is_empty(), "none");
    }

    #[test]
    fn the_empty_and_the_absurd_are_worth_nothing_and_move_nothing() {
        let mut all = signals(&[(0, 0.0, 1.9), (1, 0.1, 2.0), (2, 0.2, 2.1), (3, 0.3, 2.2), (4, 5.0, 9.0)]);
        all.push(Signal { text: 5, copy: false, hollow: false, gain: 8.0, surprise: None });
        let found = accuracies(&all, 0.3, 6.0);
        assert_eq!(found[4..], [0.0, 0.0], "gated and empty: {found:?}");
        assert!((found[0] - 0.25).abs() < 1e-12, "the median is 0.15: {found:?}");
        let open = accuracies(&all[..5], 0.3, 1e9);
        assert_eq!(open[4], 1.0, "an open gate lets it in");
        assert_eq!(accuracies(&all[5..], 0.3, 6.0), [0.0], "nothing but an empty one");
    }

    #[test]
    fn what_is_hollow_is_worth_nothing_unless_most_are() {
        let mut all = signals(&[(0, 0.0, 2.0), (1, 0.1, 2.0), (2, 0.2, 2.0), (3, 9.0, 2.0)]);
        all[3].hollow = true;
        let found = accuracies(&all, 0.3, 6.0);
        assert_eq!(found[3], 0.0, "a loop");
        assert!((found[1] - 0.5).abs() < 1e-12, "which moves no median: {found:?}");
        all[0].hollow = true;
        assert_eq!(accuracies(&all, 0.3, 6.0)[3], 0.0, "half of them");
        all[1].hollow = true;
        assert_eq!(accuracies(&all, 0.3, 6.0)[3], 1.0, "where it was asked for");
    }

    #[test]
    fn few_or_equal_surprises_shut_nothing_out() {
        let few = signals(&[(0, 0.0, 1.0), (1, 0.0, 1.1), (2, 0.0, 50.0)]);
        assert_eq!(accuracies(&few, 0.3, 6.0), [0.5; 3], "three tell nothing");
        let equal = signals(&[(0, 0.0, 1.0), (1, 0.0, 1.0), (2, 0.0, 1.0), (3, 0.0, 1.0), (4, 0.0, 50.0)]);
        assert_eq!(accuracies(&equal, 0.3, 6.0), [0.5; 5], "no deviation, no measure");
    }
}
