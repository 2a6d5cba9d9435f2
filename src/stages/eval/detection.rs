//! How well evidence tells copies from what is none.

/// Evidence about responses of which it is known whether they are copies, in the order of evidence.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The largest evidence first.
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    evidence: f64,
    prompt: u32,
    copy: bool,
}

/// How well copies are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// The area under the ROC curve: how likely a copy has more evidence than what is none, where equal evidence counts half. 0 to 1.
    pub auc: f64,
    /// The share of copies at or above the threshold, which is the smallest number such that at most 1 % of what is no copy has as much
    /// evidence or more.
    pub true_positives: f64,
    /// The largest evidence below that threshold: what has more than this is at or above it.
    pub above: f64,
}

impl Detection {
    /// Of (evidence, prompt) of copies and of what is none; evidence is finite.
    pub fn new(copies: impl IntoIterator<Item = (f64, u32)>, others: impl IntoIterator<Item = (f64, u32)>) -> Self {
        let sample = |copy| move |(evidence, prompt)| Sample { evidence, prompt, copy };
        let mut samples: Vec<Sample> = copies.into_iter().map(sample(true)).collect();
        samples.extend(others.into_iter().map(sample(false)));
        samples.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
        Self { samples }
    }

    /// How well copies are told, each response counted as often as `count` says of its prompt; `None` without a copy, or without anything
    /// else.
    pub fn rates(&self, count: impl Fn(u32) -> u32) -> Option<Rates> {
        let sum = |samples: &[Sample]| {
            let mut sums = [0_u64; 2];
            for sample in samples {
                sums[usize::from(sample.copy)] += u64::from(count(sample.prompt));
            }
            sums
        };
        let [others, copies] = sum(&self.samples);
        if copies == 0 || others == 0 {
            return None;
        }
        let (mut copies_above, mut others_above, mut twice) = (0, 0, 0_u128);
        let mut at_threshold = None;
        for equal in self.samples.chunk_by(|a, b| a.evidence == b.evidence) {
            let [others_here, copies_here] = sum(equal);
            twice += u128::from(others_here) * u128::from(2 * copies_above + copies_here);
            if at_threshold.is_none() && others_above + others_here > others / 100 {
                at_threshold = equal.first().map(|sample| (copies_above, sample.evidence));
            }
            copies_above += copies_here;
            others_above += others_here;
        }
        let (found, above) = at_threshold?;
        Some(Rates {
            auc: twice as f64 / (2 * u128::from(copies) * u128::from(others)) as f64,
            true_positives: found as f64 / copies as f64,
            above,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `roc_auc_score`, and of `roc_curve` where its false positives are at most 0.01, of scikit-learn 1.9.1.
    #[test]
    fn rates_are_those_of_scikit_learn() {
        let numbers = |count: u32, factor: u32, modulus: u32, more: f64| -> Vec<f64> {
            (0..count).map(|i| f64::from(i * i * factor % modulus) / 4.0 + more).collect()
        };
        let rare = |zeros: usize| [vec![0.0; zeros], vec![5.0]].concat();
        let (ties, others) = (numbers(40, 31, 23, 0.0), numbers(250, 7, 19, 0.0));
        let cases = [
            ("ties", ties.clone(), others.clone(), 0.47655, 0.1),
            (
                "mostly apart",
                numbers(60, 17, 29, 3.0),
                numbers(301, 7919, 37, 0.0),
                0.6915282392026578,
                0.13333333333333333,
            ),
            ("few", vec![1.0, 2.0, 3.0], vec![0.5, 1.0, 2.5], 0.7222222222222222, 0.3333333333333333),
            ("all equal", vec![1.0; 3], vec![1.0; 5], 0.5, 0.0),
            ("one of 100 is 1 %", vec![5.0, 1.0], rare(99), 0.9925, 1.0),
            ("one of 99 is more", vec![5.0, 1.0], rare(98), 0.9924242424242424, 0.0),
        ];
        let at = |numbers: &[f64]| numbers.iter().copied().zip(0..).collect::<Vec<_>>();
        for (what, copies, others, auc, true_positives) in cases {
            let found = Detection::new(at(&copies), at(&others)).rates(|_| 1).expect("both kinds");
            assert!((found.auc - auc).abs() < 1e-14, "{what}: {} where scikit-learn has {auc}", found.auc);
            assert_eq!(found.true_positives, true_positives, "{what}");
            let as_much = others.iter().filter(|evidence| **evidence > found.above).count();
            let more = others.iter().filter(|evidence| **evidence >= found.above).count();
            assert!(as_much * 100 <= others.len() && more * 100 > others.len(), "{what}: the smallest threshold");
        }
        // Each response as often as its prompt was drawn.
        let found = Detection::new(at(&ties), at(&others)).rates(|prompt| prompt % 5 % 3).expect("both kinds");
        assert!((found.auc - 0.4565625).abs() < 1e-14 && found.true_positives == 0.03125, "{found:?}");
        assert_eq!(Detection::new(at(&ties), []).rates(|_| 1), None, "nothing that is no copy");
        assert_eq!(Detection::new([], at(&others)).rates(|_| 1), None, "no copy");
        assert_eq!(Detection::new(at(&ties), at(&others)).rates(|_| 0), None, "nothing was drawn");
    }
}
