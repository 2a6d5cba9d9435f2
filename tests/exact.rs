//! The encoder in integers: every integer of the recorded embeddings, and the same on every device, in any batch and order.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot be set up must fail, and says how much it saw"
)]

mod common;

use std::process::Command;
use std::sync::LazyLock;

use common::{Sizes, devices};
use proptest::collection::vec;
use proptest::prelude::*;
use tauscore::KERNELS;
use tauscore::device::{Data, Device, Instructions, Kernel, Noise, Sample, Variant};
use tauscore::nn::exact::{IntegerLayer, IntegerLinear, IntegerModel, IntegerNorm};
use tauscore::stages::encode::ExactEncoder;
use tauscore::stages::encode::self_test::{self, Differences, KnownAnswer, Recorded};

/// The integer model of MiniLM; skipped, loudly, without the checkpoint.
fn minilm() -> Option<IntegerModel> {
    common::model().map(|folder| IntegerModel::convert(&folder).unwrap())
}

/// A model of random integers whose sizes are as a checked model's. It means nothing.
fn random_model(seed: u64, hidden: usize, heads: usize, inner: usize, layers: usize) -> IntegerModel {
    let mut noise = Noise::new(seed);
    let mut numbers =
        |count: usize, bits: u32| -> Vec<i32> { (0..count).map(|_| noise.bits() as i32 >> (32 - bits)).collect() };
    let mut norm = |gain: i32| IntegerNorm {
        gain: numbers(hidden, 17).iter().map(|x| x + gain).collect(),
        bias: numbers(hidden, 14),
    };
    let gain = (65_536.0 * (hidden as f64).sqrt()) as i32;
    let embedding_norm = norm(gain);
    let norms: Vec<[IntegerNorm; 2]> = (0..layers).map(|_| [norm(gain), norm(gain)]).collect();
    let mut linear = |outputs: usize, inputs: usize| IntegerLinear {
        outputs,
        inputs,
        shift: 22,
        steps: numbers(outputs, 13).iter().map(|x| (x + 5000) as u32).collect(),
        bias: numbers(outputs, 14),
        weights: numbers(outputs * inputs, 8).iter().map(|x| (*x).max(-127) as i8).collect(),
    };
    let layers = norms
        .into_iter()
        .map(|[attention_norm, output_norm]| IntegerLayer {
            query: linear(hidden, hidden),
            key: linear(hidden, hidden),
            value: linear(hidden, hidden),
            attention_output: linear(hidden, hidden),
            intermediate: linear(inner, hidden),
            output: linear(hidden, inner),
            attention_norm,
            output_norm,
        })
        .collect();
    let mut table = |rows: usize| numbers(rows * hidden, 12).iter().map(|x| *x as i16).collect();
    IntegerModel {
        hidden,
        heads,
        word: table(300),
        position: table(512),
        embedding_norm,
        layers,
        gelu: (0..514).map(|at: i32| (289 - at).max(0) * 11 + at % 3).collect(),
    }
}

/// The embeddings of sequences of at most `embedded` tokens, and the states of those of at most `followed`.
fn every_integer_is_as_recorded(encoder: &ExactEncoder, embedded: usize, followed: usize) {
    let mut rows = self_test::recorded().unwrap();
    rows.retain(|row| row.ids.len() <= embedded);
    let differences = self_test::compare(encoder, &rows, followed, &mut |_| {}).unwrap();
    assert_eq!(differences, Differences::default(), "{}", encoder.device().name());
    let states: usize = rows.iter().filter(|row| row.ids.len() <= followed).map(|row| row.hidden.len()).sum();
    eprintln!("{}: {} embeddings, {states} states, no integer differs", encoder.device().name(), rows.len());
    assert!(rows.len() > 20 && states > 100, "enough to mean something");
}

#[test]
fn minilm_is_as_recorded_on_the_cpu() {
    let Some(model) = minilm() else { return };
    every_integer_is_as_recorded(&ExactEncoder::new(&Device::cpu(), &model).unwrap(), usize::MAX, usize::MAX);
}

/// Which instructions are used is looked at once in a process, so each of them gets its own.
#[test]
fn minilm_is_as_recorded_with_all_instructions_that_the_cpu_has() {
    for instructions in Instructions::available() {
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "minilm_is_as_recorded_on_the_cpu"])
            .env("TAUSCORE_CPU", instructions.name())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && told.contains("1 passed"), "{}: {told}", instructions.name());
    }
}

#[test]
fn what_differs_from_a_recording_is_counted_and_placed() {
    let Some(model) = minilm() else { return };
    let encoder = ExactEncoder::new(&Device::cpu(), &model).unwrap();
    let mut right = self_test::recorded().unwrap();
    right.truncate(12);
    type Spoil = fn(&mut [Recorded]);
    let cases: [(Spoil, usize, &str); 4] = [
        (|rows| rows[1].embedding[383] += 1, 1, "sequence 1 of 10 tokens: 1 integers differ, behind the last layer"),
        (
            |rows| rows[10].hidden[0] = String::new(),
            0,
            "sequence 10 of 9 tokens: 0 integers differ, from the embeddings' norm on",
        ),
        (|rows| rows[11].hidden[6] = String::new(), 0, "sequence 11 of 6 tokens: 0 integers differ, from layer 5 on"),
        (|rows| rows[2].embedding.truncate(380), 4, "sequence 2 of 2 tokens: 4 integers differ, behind the last layer"),
    ];
    for (spoil, integers, first) in cases {
        let mut rows = right.clone();
        spoil(&mut rows);
        let found = self_test::compare(&encoder, &rows, 16, &mut |_| {}).unwrap();
        assert_eq!((found.integers, found.first), (integers, Some(format!("recorded {first}"))), "spoilt");
    }
    // One whole wrong sequence: as many integers as its embedding has, more or less, and the place of the first.
    let mut rows = right.clone();
    rows[9].ids[4] += 1;
    let found = self_test::compare(&encoder, &rows, 0, &mut |_| {}).unwrap();
    assert!(found.integers > 300 && found.first.unwrap().ends_with("from the embeddings' norm on"), "another word");
}

#[test]
fn minilm_is_as_recorded_on_every_adapter() {
    let Some(model) = minilm() else { return };
    for device in devices() {
        // Software adapters are slow, and one of them slower still; TAUSCORE_TEST_ALL spares none. A long sequence whose embedding
        // is right was right on the way.
        let all = std::env::var_os("TAUSCORE_TEST_ALL").is_some() || !device.name().contains("SwiftShader");
        let (embedded, followed) = if all { (usize::MAX, 64) } else { (40, 16) };
        every_integer_is_as_recorded(&ExactEncoder::new(&device, &model).unwrap(), embedded, followed);
    }
}

/// Sequences of random ids, with lengths around every block and tile.
fn sequences(noise: &mut Noise, vocabulary: usize, lengths: &[usize]) -> Vec<Vec<u32>> {
    lengths.iter().map(|length| (0..*length).map(|_| noise.below(vocabulary as u32)).collect()).collect()
}

/// Embeds random sequences together, each alone, and in any order and company; returns what they are together.
fn batching_changes_nothing(encoder: &ExactEncoder, lengths: &[usize], seed: u64) -> Vec<i16> {
    let mut noise = Noise::new(seed);
    let together = sequences(&mut noise, encoder.vocabulary(), lengths);
    let all = encoder.encode(&together).unwrap();
    let width = encoder.width();
    for (index, sequence) in together.iter().enumerate() {
        let alone = encoder.encode(&[sequence]).unwrap();
        assert_eq!(alone, all[index * width..][..width], "sequence {index} of {} tokens, alone", sequence.len());
    }
    // Any order, so many that they take several batches, and in a few calls.
    let order: Vec<usize> = (0..3 * together.len()).map(|_| noise.below(together.len() as u32) as usize).collect();
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let (call, after) = rest.split_at(1 + noise.below(rest.len() as u32) as usize);
        rest = after;
        let mixed: Vec<&Vec<u32>> = call.iter().map(|index| &together[*index]).collect();
        for (row, index) in encoder.encode(&mixed).unwrap().chunks(width).zip(call) {
            assert_eq!(row, &all[index * width..][..width], "sequence {index} in another batch");
        }
    }
    all
}

#[test]
fn minilm_gives_the_same_integers_alone_and_together_on_every_device() {
    let Some(model) = minilm() else { return };
    let cpu = ExactEncoder::new(&Device::cpu(), &model).unwrap();
    let lengths = [2, 65, 31, 7, 63, 64, 3, 128, 129, 511, 512, 2, 33];
    batching_changes_nothing(&cpu, &lengths, 13);
    for device in devices() {
        let right = batching_changes_nothing(&cpu, &lengths[..4], 4);
        let found = batching_changes_nothing(&ExactEncoder::new(&device, &model).unwrap(), &lengths[..4], 4);
        assert!(found == right, "{}: other integers than the CPU's", device.name());
    }
}

#[test]
fn models_of_other_sizes_give_the_same_integers_on_every_device() {
    for (hidden, heads, inner, layers) in
        [(96, 3, 200, 3), (128, 2, 64, 2), (48, 4, 100, 1), (512, 4, 12, 1), (4, 1, 4, 0)]
    {
        let model = random_model(hidden as u64, hidden, heads, inner, layers);
        let lengths = [1, 2, 40, 66, 17, 130];
        let right = batching_changes_nothing(&ExactEncoder::new(&Device::cpu(), &model).unwrap(), &lengths, 6);
        assert!(right.iter().any(|number| number.unsigned_abs() > 300), "the embeddings say something");
        for device in devices() {
            let found = batching_changes_nothing(&ExactEncoder::new(&device, &model).unwrap(), &lengths, 6);
            assert!(found == right, "{}: other integers than the CPU's, hidden {hidden}", device.name());
        }
    }
}

/// The integer model of a checkpoint of random weights, whose ranges are proven.
fn proven_model(seed: u64, sizes: Sizes) -> IntegerModel {
    let folder = tempfile::tempdir().unwrap();
    sizes.checkpoint(folder.path(), seed);
    let model = IntegerModel::convert(folder.path()).unwrap();
    assert!(model.ranges().is_ok(), "the proof");
    model
}

#[test]
fn checkpoints_of_other_sizes_convert_and_give_the_same_integers_on_every_device() {
    for sizes in [
        Sizes { vocabulary: 500, positions: 90, hidden: 96, heads: 3, inner: 200, layers: 4 },
        Sizes { vocabulary: 70, positions: 140, hidden: 192, heads: 3, inner: 36, layers: 2 },
        Sizes { vocabulary: 33, positions: 70, hidden: 256, heads: 2, inner: 512, layers: 1 },
        Sizes { vocabulary: 50, positions: 65, hidden: 1020, heads: 15, inner: 64, layers: 1 },
    ] {
        let model = proven_model(sizes.hidden as u64, sizes);
        let lengths = [2, sizes.positions, 31, 3];
        let right = batching_changes_nothing(&ExactEncoder::new(&Device::cpu(), &model).unwrap(), &lengths, 1);
        let (first, second) = (&right[..sizes.hidden], &right[sizes.hidden..2 * sizes.hidden]);
        assert!(first.iter().zip(second).any(|(a, b)| (a - b).unsigned_abs() > 100), "{sizes:?}: texts differ");
        for device in devices() {
            let encoder = ExactEncoder::new(&device, &model).unwrap();
            let found = encoder.encode(&sequences(&mut Noise::new(1), encoder.vocabulary(), &lengths)).unwrap();
            assert!(found == right, "{}: other integers than the CPU's, {sizes:?}", device.name());
        }
    }
}

/// Two layers whose ranges are proven, on the CPU and on every adapter.
static SMALL: LazyLock<(ExactEncoder, Vec<ExactEncoder>)> = LazyLock::new(|| {
    let sizes = Sizes { vocabulary: 300, positions: 512, hidden: 96, heads: 3, inner: 200, layers: 2 };
    let model = proven_model(9, sizes);
    let on = |device: &Device| ExactEncoder::new(device, &model).unwrap();
    (on(&Device::cpu()), devices().iter().map(on).collect())
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sequence_has_one_embedding_in_any_company(lengths in vec(2..=512_usize, 1..7), seed: u64) {
        batching_changes_nothing(&SMALL.0, &lengths, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sequence_has_one_embedding_on_every_device(lengths in vec(2..=40_usize, 1..5), seed: u64) {
        let right = batching_changes_nothing(&SMALL.0, &lengths, seed);
        for encoder in &SMALL.1 {
            let found = batching_changes_nothing(encoder, &lengths, seed);
            prop_assert!(found == right, "{}: other integers than the CPU's", encoder.device().name());
        }
    }
}

/// Any bits in every place of a model: nothing about its ranges is proven, and nothing holds.
fn wild_model(seed: u64, hidden: usize, heads: usize, inner: usize) -> IntegerModel {
    let mut noise = Noise::new(seed);
    let mut any = |words: &mut [u32]| words.iter_mut().for_each(|word| *word = noise.bits());
    let mut model = random_model(seed, hidden, heads, inner, 2);
    let norms = model.layers.iter_mut().flat_map(|layer| [&mut layer.attention_norm, &mut layer.output_norm]);
    for norm in norms.chain([&mut model.embedding_norm]) {
        for numbers in [&mut norm.gain, &mut norm.bias] {
            any(bytemuck::cast_slice_mut(numbers));
            (numbers[0], numbers[1]) = (i32::MIN, i32::MAX);
        }
    }
    for layer in &mut model.layers {
        let parts = [
            (&mut layer.query, 24),
            (&mut layer.key, 20),
            (&mut layer.value, 1),
            (&mut layer.attention_output, 32),
            (&mut layer.intermediate, 33),
            (&mut layer.output, 63),
        ];
        for (linear, shift) in parts {
            any(bytemuck::cast_slice_mut(&mut linear.bias));
            any(&mut linear.steps);
            any(bytemuck::cast_slice_mut(&mut linear.weights));
            (linear.steps[0], linear.bias[0], linear.shift) = (u32::MAX, i32::MAX, shift);
            // A row of the largest sums, and one of the least.
            linear.weights[..2 * linear.inputs].fill(127);
            linear.weights[linear.inputs..2 * linear.inputs].fill(-128);
        }
    }
    any(bytemuck::cast_slice_mut(&mut model.gelu));
    any(bytemuck::cast_slice_mut(&mut model.word));
    any(bytemuck::cast_slice_mut(&mut model.position));
    model
}

/// Hidden size, heads and inner size of wild models.
const WILD: [(usize, usize, usize); 3] = [(96, 3, 200), (256, 2, 1024), (1020, 15, 64)];

/// Such a model cannot be read from a file. But one whose proof had a gap must not panic, in a build that checks for overflow as this
/// one does.
#[test]
fn a_model_beyond_every_range_does_not_panic() {
    for (hidden, heads, inner) in WILD {
        let model = wild_model(hidden as u64, hidden, heads, inner);
        assert!(model.ranges().is_err(), "nothing is proven");
        let encoder = ExactEncoder::new(&Device::cpu(), &model).unwrap();
        batching_changes_nothing(&encoder, &[1, 2, 40, 130, 512], 2);
    }
}

fn wraps_alike(spoil: impl Fn(&mut IntegerLayer)) {
    for (hidden, heads, inner) in WILD {
        let mut model = wild_model(hidden as u64, hidden, heads, inner);
        model.layers.iter_mut().for_each(&spoil);
        let lengths = [1, 2, 30, 66];
        let right = batching_changes_nothing(&ExactEncoder::new(&Device::cpu(), &model).unwrap(), &lengths, 2);
        for device in devices() {
            let found = ExactEncoder::new(&device, &model).unwrap();
            let found = found.encode(&sequences(&mut Noise::new(2), 300, &lengths)).unwrap();
            assert!(found == right, "{}: other integers than the CPU's, hidden {hidden}", device.name());
        }
    }
}

#[test]
fn a_model_beyond_its_ranges_wraps_alike_on_every_device() {
    wraps_alike(|layer| {
        // Values under the softmax are left within their 16 bits.
        layer.value.shift = 63;
        layer.value.steps.fill(1);
        layer.value.bias.iter_mut().for_each(|bias| *bias >>= 11);
    });
}

#[test]
fn a_model_beyond_every_range_wraps_alike_on_every_device() {
    wraps_alike(|_| {});
}

/// Kernels with known answers: all that the exact encoder runs. Exact kernels of other stages are added here, by name.
const ANSWERED: [&str; 8] = [
    "nn/exact/embed",
    "nn/exact/quantise",
    "nn/exact/linear",
    "nn/exact/attention",
    "nn/exact/norm",
    "nn/exact/pool",
    "novelty/products",
    "novelty/nearest",
];

/// The samples of [`ANSWERED`] that are small enough to be run at every start, with their kernels.
fn answered() -> Vec<(&'static Kernel, Sample)> {
    let small = |kernel: &Kernel, sample: &Sample| {
        let bytes: usize = sample.bindings.iter().map(Data::size).sum();
        // Other constants than the shader has of itself are another pipeline to compile: `doctor` runs those.
        let own = kernel.specialised(Variant::Core, &sample.constants) == kernel.wgsl.core;
        own && bytes <= 600_000 && sample.operations <= 8_000_000
    };
    let kernels = ANSWERED.map(|name| *KERNELS.iter().find(|kernel| kernel.name == name).unwrap());
    let samples = kernels.into_iter().flat_map(|kernel| (kernel.samples)().into_iter().map(move |one| (kernel, one)));
    samples.filter(|(kernel, sample)| small(kernel, sample)).collect()
}

/// Writes `datasets/exact/self_test.json`: what the CPU and all adapters here agree on. It is to be run, with a look at what changes,
/// when samples have changed; an answer to a sample that did not change must stay:
/// `cargo test --profile checked --test exact -- --ignored record`, then `python3 datasets/scripts/check_manifest.py --update`.
#[test]
#[ignore = "writes datasets/exact/self_test.json"]
fn record_the_known_answers() {
    let devices = devices();
    assert!(!devices.is_empty(), "the CPU alone is not to be believed");
    let mut text = String::from("[");
    for (kernel, sample) in answered() {
        let written = self_test::answer(&Device::cpu(), kernel, sample.clone()).unwrap();
        for device in &devices {
            let other = self_test::answer(device, kernel, sample.clone()).unwrap();
            assert_eq!(other, written, "{}: {} ({})", device.name(), kernel.name, sample.about);
        }
        let known = KnownAnswer { kernel: kernel.name.into(), sample: sample.about.into(), written };
        text += if text.len() == 1 { "\n" } else { ",\n" };
        text += &serde_json::to_string(&known).unwrap();
    }
    std::fs::write(common::package().join("datasets/exact/self_test.json"), text + "\n]\n").unwrap();
}

#[test]
fn every_small_sample_of_the_exact_kernels_has_a_known_answer() {
    let exact = KERNELS.iter().map(|kernel| kernel.name).filter(|name| name.starts_with("nn/exact/"));
    assert_eq!(exact.filter(|name| !ANSWERED.contains(name)).count(), 0, "a kernel of the encoder is missing");
    let known = self_test::known_answers().unwrap();
    let known: Vec<_> = known.iter().map(|known| (known.kernel.as_str(), known.sample.as_str())).collect();
    let samples = answered();
    let small: Vec<_> = samples.iter().map(|(kernel, sample)| (kernel.name, sample.about)).collect();
    assert_eq!(known, small, "the samples have changed: record their answers anew, see record_the_known_answers");
    for name in ANSWERED {
        assert!(known.iter().filter(|(kernel, _)| *kernel == name).count() >= 1, "{name}: no answer");
    }
}

#[test]
fn every_device_passes_the_self_test() {
    for device in devices().into_iter().chain([Device::cpu()]) {
        self_test::run(&device).unwrap();
    }
}

#[test]
fn a_device_that_computes_anything_else_is_refused_by_its_kernel() {
    let known = self_test::known_answers().unwrap();
    for device in devices().into_iter().chain([Device::cpu()]) {
        for name in ANSWERED {
            let mut answers = known.clone();
            let last = answers.iter_mut().rfind(|known| known.kernel == name).unwrap();
            last.written.replace_range(15.., if last.written.ends_with('0') { "1" } else { "0" });
            let sample = last.sample.clone();
            let error = self_test::run_with(&device, &answers).unwrap_err();
            let right = format!(
                "device {}: self-test: {name}: it computes other numbers than it must ({sample})",
                device.name()
            );
            assert_eq!(error.to_string(), right, "the first that is wrong");
            assert_eq!(error.remedy().unwrap().contains("--device cpu"), !device.is_cpu(), "{:?}", error.remedy());
        }
    }
    for (kernel, sample) in [("nn/exact/nothing", "four numbers"), ("nn/exact/norm", "nothing")] {
        let answer = KnownAnswer { kernel: kernel.into(), sample: sample.into(), written: String::new() };
        let error = self_test::run_with(&Device::cpu(), &[answer]).unwrap_err().to_string();
        assert!(error.contains(&format!("{kernel}: there is no sample {sample:?}")), "{error}");
    }
}

#[test]
fn embeddings_are_of_unit_length() {
    let model = random_model(7, 96, 3, 200, 2);
    let encoder = ExactEncoder::new(&Device::cpu(), &model).unwrap();
    let found = encoder.encode(&sequences(&mut Noise::new(1), 300, &[2, 30, 500])).unwrap();
    for row in found.chunks(96) {
        let squares: i64 = row.iter().map(|x| i64::from(*x).pow(2)).sum();
        assert!((squares - (1 << 30)).abs() < 1 << 18, "{squares} is not the square of about 32768");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = random_model(1, 96, 3, 200, 1);
    let encoder = ExactEncoder::new(&Device::cpu(), &good).unwrap();
    for (sequence, problem) in
        [(vec![], "no token"), (vec![5; 513], "the limit is 512"), (vec![300], "beyond the vocabulary")]
    {
        let error = encoder.encode(&[vec![5], sequence]).unwrap_err().to_string();
        assert!(error.contains("sequence 1") && error.contains(problem), "{error}");
    }
    assert!(encoder.encode::<Vec<u32>>(&[]).unwrap().is_empty(), "nothing in, nothing out");

    type Spoil = fn(&mut IntegerModel);
    let spoilt: [(&str, Spoil); 9] = [
        ("multiple of 4 up to 1024", |model| model.hidden = 95),
        ("a head must be", |model| model.heads = 5),
        ("a head must be", |model| model.heads = 0),
        ("the word table", |model| model.word.truncate(100)),
        ("the position table", |model| model.position.clear()),
        ("the GELU table", |model| model.gelu.truncate(513)),
        ("part of layer 0", |model| model.layers[0].key.bias.truncate(95)),
        ("part of layer 0", |model| model.layers[0].output.shift = 64),
        ("norm", |model| model.embedding_norm.gain.clear()),
    ];
    for (problem, spoil) in spoilt {
        let mut model = good.clone();
        spoil(&mut model);
        let error = ExactEncoder::new(&Device::cpu(), &model).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
