//! What models said before: a round that is measured in parts, on whatever machines, is scored as one that is measured at once, bit for
//! bit; and nothing is read twice.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod common;

use std::fs;
use std::path::Path;

use common::{devices, package};
use tauscore::Error;
use tauscore::config::{Config, LossKind, Precision};
use tauscore::data::{Options, ReferenceRow, Round, Row};
use tauscore::device::{Device, Noise};
use tauscore::pipeline::{self, Embedder, Judge, Models, Outcome};

const WORDS: [&str; 12] =
    ["one", "train", "leaves", "at", "noon", "and", "another", "meets", "it", "halfway", "near", "Leeds"];

/// Twelve miners' answers to seven prompts: some the same, some empty, one longer than the model reads, some unanswered.
fn rows() -> Vec<Row> {
    let mut noise = Noise::new(11);
    let mut rows = Vec::new();
    for (prompt, asked) in WORDS.iter().enumerate().take(7) {
        for miner in 0..12 {
            let length = match noise.below(10) {
                0 => continue,
                1 => 0,
                2 => 60,
                _ => 1 + noise.below(12),
            };
            let words: Vec<&str> = (0..length).map(|_| WORDS[noise.below(12) as usize]).collect();
            rows.push(Row {
                prompt_id: format!("p{prompt}"),
                prompt: Some(format!("Where do they meet, {asked}?")),
                miner: format!("m{miner}"),
                response: words.join(" "),
                block: Some(u64::from(noise.below(5))),
                ..Row::default()
            });
        }
    }
    rows
}

fn round(rows: &[Row]) -> Round {
    let reference = |prompt: usize| ReferenceRow {
        prompt_id: format!("p{prompt}"),
        reference: format!("They meet near Leeds, {} miles from {}.", prompt + 3, WORDS[prompt]),
        ..ReferenceRow::default()
    };
    Round::from_rows(rows.to_vec(), (0..7).map(reference), Options::default()).unwrap().0
}

fn embedder(device: &Device, precision: Precision) -> Embedder {
    common::embedder(device, &package().join("datasets/models/f32-mean"), precision)
}

fn judge(device: &Device) -> Judge {
    Judge::load(device, &package().join("datasets/models/gguf-q4_1"), None).unwrap()
}

fn criteria(kind: LossKind, precision: Precision) -> Config {
    let mut config = Config::default();
    config.loss.kind = kind;
    config.encoder.precision = precision;
    config
}

fn score(models: &mut Models<'_>, round: &Round, history: &[Round], config: &Config) -> Outcome {
    pipeline::score(models, round, history, None, config, &mut |_| {}).unwrap()
}

/// The bytes of all files that an outcome becomes.
fn written(folder: &Path, round: &Round, outcome: &Outcome, config: &Config) -> Vec<(String, Vec<u8>)> {
    pipeline::write(folder, round, outcome, config, None::<&()>).unwrap();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_round_in_parts_is_the_round_at_once() {
    let rows = rows();
    let earlier: Vec<Row> = rows.iter().step_by(5).map(|row| Row { block: None, ..row.clone() }).collect();
    let history = [round(&earlier)];
    let kinds = [
        (LossKind::MutualGain, Precision::Exact),
        (LossKind::ReferenceGain, Precision::F32),
        (LossKind::ExplainedSum, Precision::Exact),
        (LossKind::Lm, Precision::Exact),
        (LossKind::Embedding, Precision::F32),
        (LossKind::Contrast, Precision::Exact),
        (LossKind::Exact, Precision::Exact),
    ];
    let devices: Vec<Device> = devices().into_iter().chain([Device::cpu()]).collect();
    for device in devices {
        let judge = judge(&device);
        let embedders = [Precision::Exact, Precision::F32].map(|precision| embedder(&device, precision));
        // Software adapters take long: one kind in each precision shows what is different there.
        let few = [kinds[0], kinds[4]];
        let (kinds, splits) =
            if device.is_cpu() { (&kinds[..], &[1, 2, 3, rows.len()][..]) } else { (&few[..], &[3][..]) };
        for (kind, precision) in kinds.iter().copied() {
            let config = criteria(kind, precision);
            let embedder = &embedders[usize::from(precision == Precision::F32)];
            let folder = tempfile::tempdir().unwrap();
            let whole = round(&rows);
            let at_once = score(&mut Models::new(embedder, Some(&judge)), &whole, &history, &config);
            let right = written(&folder.path().join("whole"), &whole, &at_once, &config);
            for parts in splits.iter().copied() {
                // Row by row, so that prompts are torn too.
                let mut all = Models::new(embedder, Some(&judge));
                for part in 0..parts.min(5) {
                    let own: Vec<Row> = rows.iter().skip(part).step_by(parts).cloned().collect();
                    let mut models = Models::new(embedder, Some(&judge));
                    score(&mut models, &round(&own), &history[..part % 2], &config);
                    let file = folder.path().join(format!("{part}"));
                    models.save(&file).unwrap();
                    all.read(&file).unwrap();
                }
                let merged = score(&mut all, &whole, &history, &config);
                assert!(merged.tokens <= at_once.tokens, "no more is read");
                if parts == 2 || parts == 3 {
                    assert_eq!(merged.tokens, 0, "{kind:?}: nothing is read again");
                }
                let found = written(&folder.path().join("merged"), &whole, &merged, &config);
                assert!(found == right, "{kind:?} in {precision} in {parts} parts on {}", device.name());
            }
        }
    }
}

#[test]
fn models_remember_and_forget() {
    let (embedder, judge) = (embedder(&Device::cpu(), Precision::Exact), judge(&Device::cpu()));
    let config = criteria(LossKind::ReferenceGain, Precision::Exact);
    let rows = rows();
    let (first, second) = (round(&rows[..30]), round(&rows[30..]));
    let mut models = Models::new(&embedder, Some(&judge));
    let fresh = score(&mut models, &first, &[], &config);
    let known = models.known();
    assert!(known.0 > 10 && known.1 > 10 && fresh.tokens > 0, "{known:?}");
    let again = score(&mut models, &first, &[], &config);
    assert_eq!(again.tokens, 0, "nothing is read again");
    assert_eq!((again.responses, models.known()), (fresh.responses, known), "and nothing is different");

    // As many rounds as there may be take the memory of the last ones.
    let mut most = (0, 0);
    for turn in 0..12 {
        score(&mut models, if turn % 4 < 2 { &first } else { &second }, &[], &config);
        most = (most.0.max(models.known().0), most.1.max(models.known().1));
    }
    let other = {
        let mut models = Models::new(&embedder, Some(&judge));
        score(&mut models, &second, &[], &config);
        models.known()
    };
    assert!(most.0 <= known.0 + other.0 && most.1 <= known.1 + other.1, "{most:?}: {known:?} and {other:?}");
    score(&mut models, &second, &[], &config);
    score(&mut models, &second, &[], &config);
    score(&mut models, &second, &[], &config);
    assert_eq!(models.known(), other, "what three rounds did not ask for is gone");
    let fresh = score(&mut Models::new(&embedder, Some(&judge)), &second, &[], &config);
    assert_eq!(score(&mut models, &second, &[], &config).responses, fresh.responses, "what is left is still right");
}

/// A file of measurements, and the models that it is of.
fn saved(folder: &Path, embedder: &Embedder, judge: Option<&Judge>) -> std::path::PathBuf {
    let kind = if judge.is_some() { LossKind::ReferenceGain } else { LossKind::Embedding };
    let mut models = Models::new(embedder, judge);
    score(&mut models, &round(&rows()[..20]), &[], &criteria(kind, embedder.precision()));
    let path = folder.join("measured");
    models.save(&path).unwrap();
    path
}

#[test]
fn measurements_of_another_model_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Device::cpu();
    let (exact, floats, judge) = (embedder(&cpu, Precision::Exact), embedder(&cpu, Precision::F32), judge(&cpu));
    let path = saved(folder.path(), &exact, Some(&judge));
    let field = |models: &mut Models<'_>| match models.read(&path) {
        Err(Error::File { field, file, .. }) => {
            assert!(file.ends_with("measured"), "{file}");
            field
        }
        other => format!("{other:?}"),
    };
    assert_eq!(field(&mut Models::new(&floats, None)), "encoder", "the digest is of the other form of the weights");
    let shorter = common::encoder(&package().join("datasets/models/f32-mean"), Precision::Exact);
    let shorter = tauscore::config::EncoderConfig { max_tokens: Some(16), ..shorter };
    let shorter = Embedder::load(&cpu, &package().join("datasets/models/f32-mean"), &shorter, &mut |_| {}).unwrap();
    assert_eq!(field(&mut Models::new(&shorter, None)), "max_tokens");
    let other = Judge::load(&cpu, &package().join("datasets/models/gguf-q8_0"), None).unwrap();
    assert_eq!(field(&mut Models::new(&exact, Some(&other))), "judge");

    let mut without = Models::new(&exact, None);
    without.read(&path).unwrap();
    assert!(without.known().0 > 0 && without.known().1 == 0, "texts are of use without the language model");
    let path = saved(folder.path(), &exact, None);
    let mut with = Models::new(&exact, Some(&judge));
    with.read(&path).unwrap();
    assert!(with.known().0 > 0 && with.known().1 == 0, "a file may hold texts only");
}

#[test]
fn damaged_files_are_refused_and_add_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (embedder, judge) = (embedder(&Device::cpu(), Precision::Exact), judge(&Device::cpu()));
    let path = saved(folder.path(), &embedder, Some(&judge));
    let bytes = fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged");
    let read = |bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        let mut models = Models::new(&embedder, Some(&judge));
        let outcome = models.read(&damaged);
        assert!(outcome.is_ok() || models.known() == (0, 0), "a refused file adds nothing");
        outcome
    };
    assert!(read(&bytes).is_ok(), "the file as it is");
    for length in (0..bytes.len()).step_by(97) {
        assert!(read(&bytes[..length]).is_err(), "cut off after {length} bytes");
    }
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut refused = 0;
    for at in 0..header {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 7);
        refused += usize::from(read(&changed).is_err());
    }
    assert!(refused * 10 > header * 9, "{refused} of {header} changes of the header are refused");
    // Numbers that would overflow what is computed with them.
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let embeddings = header + tensors["texts.embedding"]["data_offsets"][0].as_u64().unwrap() as usize;
    let mut longer = bytes.clone();
    longer[embeddings..][..64].copy_from_slice(&[0x7f; 64]);
    assert!(read(&longer).is_err(), "rows that are too long");
}
