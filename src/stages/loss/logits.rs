//! Cross-entropy of what a miner's model said of the reference's tokens: of logits, or of the likeliest tokens' log-probabilities.
//!
//! Row t of the arrays is what the model said before it saw token t of the reference; its loss is -ln p(token t), in nats, from 0 to
//! [`LARGEST_LOSS`]. Sums are in f64, in the order of the row, with one library's `exp` and `log`: the same bits on every machine. Rows
//! are read one at a time.
#![expect(clippy::float_arithmetic, reason = "what miners send are floats; one order and one library keep the bits")]

use std::path::Path;

use super::arrays::{Array, Element, Fault, Trouble, Wanted};
use crate::{Error, Result};

/// No token's loss is larger: a probability below that, 0 too, is taken for e^-100.
pub const LARGEST_LOSS: f64 = 100.0;

/// By how much the probabilities of a row may add up to more than 1, as those rounded to bf16 do.
const SLACK: f64 = 1.0 / 32.0;

/// The loss of each token of a reference; or what is wrong with what the miner sent.
pub type Judged = Result<Vec<f64>, Fault>;

/// The losses of `tokens` by the logits in the file at `path`: `.npy` (versions 1 to 3, C order) or safetensors (the tensor `logits`, or
/// the only one), f32, f16 or bf16, little-endian, `[tokens][vocabulary]`. -inf is the logit of a token that cannot be, unless all of a row
/// are; NaN and +inf are faults.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Usage`] if a token lies beyond the vocabulary. What is wrong with the file's
/// content is no error, but the miner's [`Fault`].
pub fn logits(path: &Path, tokens: &[u32], vocabulary: usize) -> Result<Judged> {
    check(tokens, vocabulary)?;
    settle(logit_losses(path, tokens, vocabulary))
}

/// The losses of `tokens` by the log-probabilities of the k likeliest tokens in the safetensors file at `path`: `ids [tokens][k]` (i32, i64
/// or u32) and `logprobs [tokens][k]` (f32, f16 or bf16), 1 <= k <= vocabulary.
///
/// A token that is not among the k gets its even share of what they leave: (1 - sum) / (vocabulary - k). Probabilities that add up to
/// more than 1, as rounded ones may, are divided by their sum; beyond 1/32 more is a fault, as are NaN, +inf, an id twice in a row
/// and an id beyond the vocabulary.
///
/// # Errors
/// As [`logits`].
pub fn logprobs(path: &Path, tokens: &[u32], vocabulary: usize) -> Result<Judged> {
    check(tokens, vocabulary)?;
    settle(logprob_losses(path, tokens, vocabulary))
}

fn check(tokens: &[u32], vocabulary: usize) -> Result<()> {
    match tokens.iter().find(|token| **token as usize >= vocabulary) {
        None => Ok(()),
        Some(token) => Err(Error::Usage {
            argument: "tokens".into(),
            problem: format!("{token} lies beyond a vocabulary of {vocabulary}"),
            remedy: "give the reference's tokens as the miners' tokenizer makes them, and its vocabulary".into(),
        }),
    }
}

fn settle(judged: Result<Vec<f64>, Trouble>) -> Result<Judged> {
    match judged {
        Ok(losses) => Ok(Ok(losses)),
        Err(Trouble::Fault(fault)) => Ok(Err(fault)),
        Err(Trouble::Disk(error)) => Err(error),
    }
}

fn logit_losses(path: &Path, tokens: &[u32], vocabulary: usize) -> Result<Vec<f64>, Trouble> {
    let columns = (vocabulary, vocabulary);
    let wanted = Wanted { name: "logits", alone: true, elements: &Element::FLOATS, rows: tokens.len(), columns };
    let mut logits = Array::open(path, &wanted)?;
    let mut row = Vec::new();
    let mut loss = |(at, token): (usize, &u32)| {
        logits.floats(&mut row)?;
        illegal(&row).map_or(Ok(()), |what| Err(Trouble::row(at, what)))?;
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if largest == f32::NEG_INFINITY {
            return Err(Trouble::row(at, "all logits are -inf"));
        }
        let largest = f64::from(largest);
        let sum: f64 = row.iter().map(|logit| libm::exp(f64::from(*logit) - largest)).sum();
        Ok((libm::log(sum) + (largest - f64::from(row[*token as usize]))).clamp(0.0, LARGEST_LOSS))
    };
    tokens.iter().enumerate().map(&mut loss).collect()
}

fn logprob_losses(path: &Path, tokens: &[u32], vocabulary: usize) -> Result<Vec<f64>, Trouble> {
    let wanted = |name, elements| Wanted { name, alone: false, elements, rows: tokens.len(), columns: (1, vocabulary) };
    let mut ids = Array::open(path, &wanted("ids", &Element::IDS))?;
    let mut logprobs = Array::open(path, &wanted("logprobs", &Element::FLOATS))?;
    let k = ids.columns;
    if logprobs.columns != k {
        return Err(Trouble::file(format!("has {k} ids and {} logprobs a row", logprobs.columns)));
    }
    let (mut listed, mut row, mut sorted) = (Vec::new(), Vec::new(), Vec::new());
    let mut loss = |(at, token): (usize, &u32)| {
        ids.ids(&mut listed)?;
        logprobs.floats(&mut row)?;
        illegal(&row).map_or(Ok(()), |what| Err(Trouble::row(at, what)))?;
        if let Some(id) = listed.iter().find(|id| !(0..vocabulary as i64).contains(*id)) {
            return Err(Trouble::row(at, format!("id {id} lies beyond a vocabulary of {vocabulary}")));
        }
        sorted.clone_from(&listed);
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Trouble::row(at, format!("id {} stands twice", twice[0])));
        }
        let sum: f64 = row.iter().map(|logprob| libm::exp(f64::from(*logprob))).sum();
        if sum > 1.0 + SLACK {
            return Err(Trouble::row(at, format!("the probabilities add up to {sum:.4}")));
        }
        let loss = match listed.iter().position(|id| *id == i64::from(*token)) {
            Some(at) => libm::log(sum.max(1.0)) - f64::from(row[at]),
            None if sum < 1.0 => libm::log((vocabulary - k) as f64) - libm::log(1.0 - sum),
            None => LARGEST_LOSS,
        };
        Ok(loss.clamp(0.0, LARGEST_LOSS))
    };
    tokens.iter().enumerate().map(&mut loss).collect()
}

/// What is no number that a model can mean.
fn illegal(row: &[f32]) -> Option<String> {
    let at = row.iter().position(|value| value.is_nan() || *value == f32::INFINITY)?;
    Some(format!("number {at} is {}", row[at]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use safetensors::tensor::{Dtype, TensorView, serialize};

    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        vocabulary: usize,
        tokens: Vec<u32>,
        losses: BTreeMap<String, Vec<f64>>,
    }

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/logits").join(name)
    }

    fn golden() -> Golden {
        serde_json::from_slice(&fs::read(file("losses.json")).expect("the goldens")).expect("JSON")
    }

    /// What `judge` says of a file of these bytes.
    fn judged(bytes: &[u8], judge: impl FnOnce(&Path) -> Result<Judged>) -> Judged {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sent");
        fs::write(&path, bytes).expect("written");
        judge(&path).expect("nothing that a miner sends is an error")
    }

    fn bytes<const N: usize>(numbers: &[f32], to: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
        numbers.iter().flat_map(|number| to(*number)).collect()
    }

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': ({shape}), }}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.bytes());
        file.extend(data);
        file
    }

    fn floats(rows: usize, numbers: &[f32]) -> Vec<u8> {
        npy("'<f4'", &format!("{rows}, {}", numbers.len() / rows), &bytes(numbers, f32::to_le_bytes))
    }

    /// A safetensors file of `ids` and `logprobs`.
    fn likeliest(rows: usize, ids: &[i64], logprobs: &[f32]) -> Vec<u8> {
        let ids_data: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let logprobs_data = bytes(logprobs, f32::to_le_bytes);
        let shape = |numbers: usize| vec![rows, numbers / rows];
        let tensors = [
            ("ids", TensorView::new(Dtype::I64, shape(ids.len()), &ids_data).expect("legal")),
            ("logprobs", TensorView::new(Dtype::F32, shape(logprobs.len()), &logprobs_data).expect("legal")),
        ];
        serialize(tensors, None).expect("a file")
    }

    #[test]
    fn losses_are_those_of_pytorch() {
        let Golden { vocabulary, tokens, losses } = golden();
        for (name, right) in &losses {
            let judge = if name.starts_with("likeliest") { logprobs } else { logits };
            let losses =
                judge(&file(name), &tokens, vocabulary).expect("it can be read").expect("nothing is wrong with it");
            assert_eq!(losses.len(), right.len(), "{name}: a loss a token");
            for (loss, right) in losses.iter().zip(right) {
                assert!((loss - right).abs() <= 1e-12 * right.abs().max(1.0), "{name}: {loss}, PyTorch {right}");
            }
        }
        assert_eq!(losses.len(), 9, "all files");
    }

    #[test]
    fn what_cannot_be_a_models_word_is_the_miners_fault() {
        let wrong = |numbers: &[f32]| {
            judged(&floats(2, numbers), |path| logits(path, &[0, 1], 2)).expect_err("a fault").to_string()
        };
        assert_eq!(wrong(&[1.0, 2.0, f32::NAN, 0.0]), "row 1: number 0 is NaN", "named");
        assert_eq!(wrong(&[1.0, f32::INFINITY, 1.0, 0.0]), "row 0: number 1 is inf", "named");
        assert_eq!(wrong(&[1.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]), "row 1: all logits are -inf", "named");
        let impossible = judged(&floats(1, &[f32::NEG_INFINITY, 0.0]), |path| logits(path, &[0], 2));
        assert_eq!(impossible, Ok(vec![LARGEST_LOSS]), "a token that the model thought impossible");
        let far = judged(&floats(1, &[-f32::MAX, f32::MAX]), |path| logits(path, &[0], 2));
        assert_eq!(far, Ok(vec![LARGEST_LOSS]), "nothing overflows");
        let none = judged(&floats(1, &[0.0, 0.0])[..0], |path| logits(path, &[0], 2)).expect_err("a fault").to_string();
        assert!(none.starts_with("is neither .npy nor safetensors: header: the file has 0 bytes"), "{none}");
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let two = bytes(&[1.0, 2.0, 3.0, 4.0], f32::to_le_bytes);
        let legal = npy("'<f4'", "2, 2", &two);
        assert!(judged(&legal, |path| logits(path, &[0, 1], 2)).is_ok(), "this one fits");
        let fortran = String::from_utf8_lossy(&legal[10..]).replace("False", "True ").into_bytes();
        let with = |at: usize, byte: u8| {
            let mut changed = legal.clone();
            changed[at] = byte;
            changed
        };
        for (sent, problem) in [
            (npy("'<f8'", "2, 2", &two), "logits are <f8; f32, f16, bf16 are understood"),
            (npy("'>f4'", "2, 2", &two), "logits are >f4"),
            (npy("'|O'", "2, 2", &two), "logits are |O"),
            (npy("[('a', '<f4')]", "2, 2", &two), "logits are of several fields"),
            (npy("'<f4'", "2, 3", &[0; 24]), "have the shape [2, 3], not [2, 2]"),
            (npy("'<f4'", "4,", &two), "have the shape [4], not [2, 2]"),
            (npy("'<f4'", "", &[0; 4]), "have the shape []"),
            (npy("'<f4'", "2, 2, 1", &two), "have the shape [2, 2, 1]"),
            (npy("'<f4'", "2, 2", &two[1..]), "and its header calls for"),
            (npy("'<f4'", "2, 2", &[&two[..], &[0]].concat()), "and its header calls for"),
            (npy("'<f4'", "4611686018427387904, 4", &two), "calls for more bytes than there can be"),
            (npy("'<f4'", "99999999999999999999999, 2", &two), "which cannot be"),
            (npy("'<f4'", "-2, 2", &two), "lacks a legal descr, fortran_order or shape"),
            ([&legal[..10], &fortran].concat(), "in Fortran order"),
            (with(6, 4), "of version 4.0"),
            (with(9, 200), "cut off in its header"),
            (legal[..7].to_vec(), "cut off in its header"),
            (likeliest(2, &[0, 1], &[0.0, 0.0]), "has no tensor \"logits\""),
            (vec![b'x'; 100], "is neither .npy nor safetensors: header: it claims"),
        ] {
            let fault = judged(&sent, |path| logits(path, &[0, 1], 2)).expect_err(problem);
            assert!(fault.row.is_none() && fault.what.contains(problem), "{fault}: {problem}");
        }
    }

    #[test]
    fn the_likeliest_tokens_are_not_trusted() {
        let half = 0.5_f32.ln();
        let say = |ids: &[i64], values: &[f32]| judged(&likeliest(1, ids, values), |path| logprobs(path, &[3], 6));
        let close = |judged: Judged, right: f64| {
            let loss = judged.expect("nothing is wrong with it")[0];
            assert!((loss - right).abs() < 1e-6, "{loss}, not {right}");
        };
        close(say(&[3, 1], &[half, -3.0]), 2_f64.ln());
        close(say(&[0, 1], &[half, half - 2_f32.ln()]), 16_f64.ln());
        close(say(&[0, 3], &[0.0, f32::NEG_INFINITY]), LARGEST_LOSS);
        close(say(&[0, 1], &[0.0, f32::NEG_INFINITY]), LARGEST_LOSS);
        // Rounded up by a little: it gains nothing.
        close(say(&[3], &[0.02]), 0.0);
        close(say(&[0, 3], &[0.0, -4.0]), 4.0 + (1.0 + (-4_f64).exp()).ln());
        for (ids, values, problem) in [
            (&[3, 1][..], &[0.0, -1.0][..], "row 0: the probabilities add up to 1.3679"),
            (&[3], &[f32::MAX], "row 0: the probabilities add up to inf"),
            (&[3, 3], &[-1.0, -1.0], "row 0: id 3 stands twice"),
            (&[3, 6], &[-1.0, -1.0], "row 0: id 6 lies beyond a vocabulary of 6"),
            (&[3, -1], &[-1.0, -1.0], "row 0: id -1 lies"),
            (&[3, 1], &[f32::NAN, -1.0], "row 0: number 0 is NaN"),
            (&[3, 1], &[-1.0], "has 2 ids and 1 logprobs a row"),
            (&[0, 1, 2, 3, 4, 5, 6], &[-9.0; 7], "ids have the shape [1, 7], not [1, 1 to 6]"),
        ] {
            let fault = say(ids, values).expect_err(problem).to_string();
            assert!(fault.contains(problem), "{fault}: {problem}");
        }
        let npy = judged(&floats(1, &[0.0; 6]), |path| logprobs(path, &[3], 6)).expect_err("one array").to_string();
        assert!(npy.contains("which holds one array"), "{npy}");
    }

    #[test]
    fn what_is_the_validators_fault_is_an_error() {
        let missing = logits(&file("nothing.npy"), &[0], 2).expect_err("no file").to_string();
        assert!(missing.contains("nothing.npy"), "{missing}");
        let beyond = logits(&file("f32.npy"), &[301], 301).expect_err("no such token").to_string();
        assert!(beyond.contains("301 lies beyond"), "{beyond}");
    }

    proptest! {
        /// A byte changed, cut off or added anywhere: losses in range or a fault, never an error and never a panic.
        #[test]
        fn no_file_is_an_error(
            which in 0_usize..9,
            at in any::<prop::sample::Index>(),
            byte: u8,
            cut in prop::option::of(any::<prop::sample::Index>()),
            more in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let Golden { vocabulary, tokens, losses } = golden();
            let name = losses.keys().nth(which).expect("nine files");
            let mut sent = fs::read(file(name)).expect("it ships");
            let at = at.index(sent.len());
            sent[at] = byte;
            if let Some(cut) = cut {
                sent.truncate(cut.index(sent.len()));
            }
            sent.extend(more);
            for judge in [logits, logprobs] {
                if let Ok(losses) = judged(&sent, |path| judge(path, &tokens, vocabulary)) {
                    prop_assert_eq!(losses.len(), tokens.len());
                    prop_assert!(losses.iter().all(|loss| (0.0..=LARGEST_LOSS).contains(loss)));
                }
            }
        }

        /// Headers of any content.
        #[test]
        fn no_header_is_an_error(header in "[{}'\"a-z<>0-9:,() _]{0,60}", version in 0_u8..5, size in prop::option::of(any::<u16>())) {
            let mut npy = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
            npy.extend(size.unwrap_or(header.len() as u16).to_le_bytes());
            npy.extend(header.bytes());
            let mut safetensors = u64::from(size.unwrap_or(header.len() as u16)).to_le_bytes().to_vec();
            safetensors.extend(header.bytes());
            for sent in [npy, safetensors] {
                for judge in [logits, logprobs] {
                    prop_assert!(judged(&sent, |path| judge(path, &[0], 2)).is_err(), "it holds no array");
                }
            }
        }
    }
}
