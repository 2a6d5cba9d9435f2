//! Language models from files: numbers and ids as they must be, and files that are damaged or lie refused with an error that
//! names the place, without a panic and without taking memory for what a file only claims.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod common;

use std::fs;
use std::path::Path;

use common::gguf::{ARRAY, F32, File, TEXT, Tensor, U32, array, byte_token, text, texts};
use common::{json, language_model};
use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::{Value, json};
use tauscore::device::Device;
use tauscore::nn::llama::LlamaModel;
use tauscore::nn::packed::{Format, PackedMatrix};
use tauscore::pipeline::Judge;
use tauscore::stages::tokens::ChatTokenizer;
use tempfile::TempDir;

/// Every type of tensor that is taken, by its number in the format.
const TYPES: [(u32, &str, Format); 6] = [
    (0, "F32", Format::F32),
    (1, "F16", Format::F16),
    (30, "BF16", Format::Bf16),
    (8, "Q8_0", Format::Q8),
    (2, "Q4_0", Format::Q4),
    (3, "Q4_1", Format::Q4),
];

const FILE: &str = "model.gguf";

/// The numbers of a tensor, straight from the format's description: the plain reference.
fn dequantise(kind: u32, bytes: &[u8]) -> Vec<f32> {
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    // Number i of the first half of a block is in the lower bits of byte i, and of the second half in the upper.
    let nibble = |bytes: &[u8], i: usize| f32::from(if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 });
    match kind {
        0 => bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect(),
        1 => bytes.chunks_exact(2).map(half).collect(),
        30 => bytes.chunks_exact(2).map(|two| bf16::from_le_bytes([two[0], two[1]]).to_f32()).collect(),
        8 => bytes
            .chunks_exact(34)
            .flat_map(|block| (0..32).map(move |i| half(block) * f32::from(block[2 + i].cast_signed())))
            .collect(),
        2 => bytes
            .chunks_exact(18)
            .flat_map(|block| (0..32).map(move |i| half(block) * (nibble(&block[2..], i) - 8.0)))
            .collect(),
        3 => bytes
            .chunks_exact(20)
            .flat_map(|block| (0..32).map(move |i| half(block) * nibble(&block[4..], i) + half(&block[2..])))
            .collect(),
        other => panic!("type {other}"),
    }
}

fn write(file: &File) -> TempDir {
    written(&file.bytes())
}

fn written(bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), bytes).unwrap();
    folder
}

/// What opening model and tokenizer came to; a refusal without the folder's path.
fn outcome(folder: &Path) -> Result<(LlamaModel, ChatTokenizer), String> {
    let both = || -> tauscore::Result<_> {
        let (model, tokenizer) = (LlamaModel::open(folder)?, ChatTokenizer::open(folder)?);
        // Whatever is accepted must also work.
        tokenizer.prefix("some text 123 <|end|>")?;
        assert_eq!(model.embedding.row(0).len(), model.config.hidden, "a row");
        Ok((model, tokenizer))
    };
    both().map_err(|error| {
        assert!(error.remedy().is_some(), "a remedy for {error}");
        let text = error.to_string().replace(&format!("{}/", folder.display()), "");
        assert!(!text.contains('\n'), "one line: {text}");
        text
    })
}

#[track_caller]
fn refusal(what: &str, folder: &TempDir) -> String {
    match outcome(folder.path()) {
        Ok(_) => panic!("{what}: it was accepted"),
        Err(text) => text,
    }
}

/// Damages the small model and checks how it is refused.
#[track_caller]
fn check(what: &str, begins: &str, holds: &str, damage: impl FnOnce(&mut File)) {
    let mut file = File::model(8, 1);
    damage(&mut file);
    let refusal = refusal(what, &write(&file));
    assert!(refusal.starts_with(&format!("{FILE}: {begins}: ")), "{what}: the place is named: {refusal}");
    assert!(refusal.contains(holds), "{what}: {holds:?} in {refusal}");
}

fn rows(matrix: &PackedMatrix) -> Vec<f32> {
    (0..matrix.rows).flat_map(|row| matrix.row(row)).collect()
}

#[test]
fn every_type_of_tensor_is_taken_exactly() {
    for (kind, name, format) in TYPES {
        let mut file = File::model(kind, 7);
        let mut head = file.tensor("token_embd.weight").clone();
        head.name = "output.weight".into();
        head.data.rotate_left(common::gguf::block(kind).1);
        if kind != 0 {
            file.tensors.push(head);
        }
        let (model, _) = outcome(write(&file).path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let layer = &model.layers[0];
        let matrices = [
            ("token_embd.weight", &model.embedding),
            ("blk.0.attn_q.weight", &layer.query),
            ("blk.0.attn_k.weight", &layer.key),
            ("blk.0.attn_v.weight", &layer.value),
            ("blk.0.attn_output.weight", &layer.output),
            ("blk.0.ffn_gate.weight", &layer.gate),
            ("blk.0.ffn_up.weight", &layer.up),
            ("blk.0.ffn_down.weight", &layer.down),
        ];
        for (tensor, matrix) in matrices.into_iter().chain(model.head.iter().map(|head| ("output.weight", head))) {
            let tensor = file.tensor(tensor);
            assert_eq!(matrix.format, format, "{name}: {}", tensor.name);
            assert_eq!([matrix.columns as u64, matrix.rows as u64], tensor.dimensions[..], "{name}: {}", tensor.name);
            assert!(rows(matrix) == dequantise(kind, &tensor.data), "{name}: numbers of {}", tensor.name);
        }
        assert_eq!(model.head.is_some(), kind != 0, "{name}: the head");
        for (tensor, gains) in [
            ("blk.0.attn_norm.weight", &layer.attention_norm),
            ("blk.0.ffn_norm.weight", &layer.feed_forward_norm),
            ("output_norm.weight", &model.norm),
        ] {
            assert!(*gains == dequantise(0, &file.tensor(tensor).data), "{name}: numbers of {tensor}");
        }
    }
}

#[test]
fn rows_of_odd_length_are_widened() {
    for kind in [1, 30] {
        let mut file = File::model(kind, 3);
        let value = 33_u32.to_le_bytes();
        file.set("llama.feed_forward_length", U32, value);
        for (tensor, dimensions) in [("gate", [32, 33]), ("up", [32, 33]), ("down", [33, 32])] {
            let tensor = file.tensor(&format!("blk.0.ffn_{tensor}.weight"));
            tensor.dimensions = dimensions.into();
            tensor.data.truncate(32 * 33 * 2);
        }
        let (model, _) = outcome(write(&file).path()).unwrap();
        let down = &model.layers[0].down;
        assert_eq!((down.format, model.layers[0].up.format == Format::F32), (Format::F32, false), "the odd one only");
        assert!(rows(down) == dequantise(kind, &file.tensor("blk.0.ffn_down.weight").data), "numbers");
    }
}

#[test]
fn a_version_before_and_other_alignments_are_read() {
    for (version, alignment) in [(2, 32), (3, 8), (3, 1), (3, 4096)] {
        let mut file = File::model(2, 5);
        file.version = version;
        file.alignment = alignment;
        if alignment != 32 {
            file.set("general.alignment", U32, (alignment as u32).to_le_bytes());
        }
        let folder = write(&file);
        let (model, _) = outcome(folder.path()).unwrap();
        let wanted = dequantise(2, &file.tensor("blk.0.ffn_down.weight").data);
        assert!(rows(&model.layers[0].down) == wanted, "version {version}, alignment {alignment}");
        assert!(LlamaModel::open(&folder.path().join(FILE)).is_ok(), "the file itself");
    }
}

#[test]
fn sizes_that_lie_are_refused() {
    check("no letters", "version", "1 is not supported", |file| file.version = 1);
    check("big-endian", "version", "big-endian", |file| file.version = 3_u32.swap_bytes());
    check("a later version", "version", "4 is not supported", |file| file.version = 4);
    for claim in [1 << 20, u64::MAX] {
        check("tensors", "tensor_count", "is more than", |file| file.counts[0] = Some(claim));
        check("keys", "metadata_kv_count", "is more than", |file| file.counts[1] = Some(claim));
    }
    check("a key less", "tensor tokenizer.chat_template", "8 dimensions", |file| file.counts[1] = Some(14));
    check("a key more", "tensors", "claims", |file| file.counts[1] = Some(16));
    check("a tensor more", "tensors", "", |file| file.counts[0] = Some(12));
    for length in [u64::MAX, u64::MAX / 8, 1 << 62, 1 << 40, 1 << 25] {
        let claim = length.to_le_bytes();
        check("a text", "general.name", &format!("it claims {length} bytes"), |file| {
            file.set("general.name", TEXT, claim)
        });
        for kind in [0_u32, 5, 8, 10, 12] {
            let bytes = [&kind.to_le_bytes()[..], &claim].concat();
            check("an array", "general.tags", &format!("it claims {length} elements"), |file| {
                file.set("general.tags", ARRAY, bytes);
            });
        }
    }
    let nested = array(ARRAY, &vec![[ARRAY.to_le_bytes(), 1_u32.to_le_bytes(), [0; 4]].concat(); 100_000]);
    check("arrays in arrays", "general.tags", "arrays of arrays", |file| file.set("general.tags", ARRAY, nested));
    for kind in [13, 99, u32::MAX] {
        check("a type", "general.name", "is no type of a value", |file| file.set("general.name", kind, [0; 8]));
        let bytes = [&kind.to_le_bytes()[..], &[0; 8]].concat();
        check("a type in an array", "general.tags", "is no type", |file| file.set("general.tags", ARRAY, bytes));
    }
    check("neither true nor false", "general.flag", "2 is neither", |file| file.set("general.flag", 7, [2]));
    check("not UTF-8", "general.name", "not UTF-8", |file| {
        file.set("general.name", TEXT, [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat());
    });
    check("a long name", "metadata", "a name has 300 bytes", |file| file.set(&"k".repeat(300), U32, [0; 4]));
    check("a key twice", "general.architecture", "it is there twice", |file| {
        file.values.push(("general.architecture".into(), TEXT, text("llama")));
    });
    for alignment in [0_u32, 3, 33, 1 << 17, u32::MAX] {
        check("alignment", "general.alignment", &format!("{alignment} is no power of two"), |file| {
            file.set("general.alignment", U32, alignment.to_le_bytes());
        });
    }
    check("a text for alignment", "general.alignment", "a text, not an integer", |file| {
        file.set("general.alignment", TEXT, text("32"));
    });
}

#[test]
fn tensors_that_lie_are_refused() {
    const QUERY: &str = "blk.0.attn_q.weight";
    let place = format!("tensor {QUERY}");
    let on_query = |what: &str, holds: &str, damage: &dyn Fn(&mut Tensor)| {
        check(what, &place, holds, |file| damage(file.tensor(QUERY)));
    };
    on_query("no dimensions", "0 dimensions", &|tensor| tensor.dimensions.clear());
    on_query("five dimensions", "5 dimensions", &|tensor| tensor.dimensions = vec![32, 1, 1, 1, 1]);
    for dimensions in [[32, u64::MAX], [1 << 32, 1 << 32], [1 << 63, 2], [32, 0], [0, 32]] {
        on_query("an empty or endless shape", "holds nothing, or more", &|tensor| {
            tensor.dimensions = dimensions.into()
        });
    }
    on_query("beyond the file", "begin at byte", &|tensor| tensor.dimensions = vec![32, 1 << 40]);
    on_query("a part of a block", "no whole number of blocks", &|tensor| tensor.dimensions = vec![33, 32]);
    on_query("another shape", "its shape is [16, 64]", &|tensor| tensor.dimensions = vec![64, 16]);
    on_query("one dimension", "its shape is [1024]", &|tensor| tensor.dimensions = vec![1024]);
    for (number, name) in [(14, "Q6_K"), (6, "Q5_0"), (12, "Q4_K"), (28, "F64"), (4, "number 4"), (77, "number 77")] {
        on_query(name, &format!("its type is {name}; F32"), &|tensor| tensor.kind = number);
    }
    for offset in [u64::MAX - 31, 1 << 62, 1 << 30] {
        on_query("an offset beyond the file", "begin at byte", &|tensor| tensor.offset = Some(offset));
    }
    on_query("an offset between", "no multiple of 32", &|tensor| tensor.offset = Some(33));
    check("overlap", "tensor blk.0.attn_norm.weight", "it overlaps with", |file| {
        file.tensor("blk.0.attn_norm.weight").offset = Some(32);
    });
    on_query("missing", "it is missing", &|tensor| tensor.name = "blk.0.attn_q.other".into());
    check("twice", &place, "it is there twice", |file| file.tensor("blk.0.attn_k.weight").name = QUERY.into());
    for name in ["rope_freqs.weight", "blk.0.attn_q.bias", "blk.1.attn_q.weight"] {
        check("of no use", &format!("tensor {name}"), "no part of a Llama model", |file| {
            let mut tensor = file.tensor("output_norm.weight").clone();
            tensor.name = name.into();
            file.tensors.push(tensor);
        });
    }
    check("a name on two lines", "tensor blk\\n.0", "", |file| {
        let mut tensor = file.tensor("output_norm.weight").clone();
        tensor.name = "blk\n.0".into();
        file.tensors.push(tensor);
    });
    check("a cut file", "tensor output_norm.weight", "begin at byte", |file| {
        file.tensor("output_norm.weight").data.pop();
    });
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for (kind, name, _) in TYPES {
        // The first half float of a block, or the one number.
        let bad: &[&[u8]] = match kind {
            0 => &[&[0, 0, 0xc0, 0x7f], &[0, 0, 0x80, 0xff]],
            30 => &[&[0xc0, 0x7f], &[0x80, 0x7f]],
            _ => &[&[0, 0x7e], &[0, 0x7c]],
        };
        for bytes in bad {
            let mut file = File::model(kind, 1);
            let (_, size) = common::gguf::block(kind);
            file.tensor("blk.0.ffn_up.weight").data[5 * size..][..bytes.len()].copy_from_slice(bytes);
            let refusal = refusal(name, &write(&file));
            assert!(refusal.starts_with(&format!("{FILE}: tensor blk.0.ffn_up.weight: ")), "{name}: {refusal}");
        }
    }
    check("a gain", "tensor output_norm.weight", "element 3 is inf", |file| {
        file.tensor("output_norm.weight").data[12..16].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    // -8 times the scale is beyond f16, though every number of the block might be within.
    let mut file = File::model(2, 1);
    file.tensor("blk.0.ffn_up.weight").data[18..20].copy_from_slice(&f16::from_f32(9000.0).to_le_bytes());
    let text = refusal("a large scale", &write(&file));
    assert_eq!(text, format!("{FILE}: tensor blk.0.ffn_up.weight: the scale of block 1 is too large"), "the block");
    // The largest scale of which it is not.
    file.tensor("blk.0.ffn_up.weight").data[18..20].copy_from_slice(&f16::from_f32(8188.0).to_le_bytes());
    let (model, _) = outcome(write(&file).path()).unwrap();
    assert!(rows(&model.layers[0].up) == dequantise(2, &file.tensor("blk.0.ffn_up.weight").data), "exact");
}

#[test]
fn what_the_decoder_does_not_compute_is_refused() {
    let number = |value: u32| value.to_le_bytes();
    for (key, value, holds) in [
        ("llama.block_count", 0, "0 is not between 1 and"),
        ("llama.block_count", 1_000_000, "is not between 1 and"),
        ("llama.embedding_length", 0, "0 is not between 1 and"),
        ("llama.embedding_length", u32::MAX, "is not between 1 and"),
        ("llama.feed_forward_length", 0, "0 is not between 1 and"),
        ("llama.context_length", 0, "0 is not between 1 and"),
        ("llama.vocab_size", 0, "0 is not between 1 and"),
        ("llama.attention.head_count", 0, "0 is not between 1 and"),
        ("llama.attention.head_count", 3, "do not divide 32"),
        ("llama.attention.head_count", 32, "heads of 1 are not supported"),
        ("llama.attention.head_count_kv", 3, "3 heads of keys do not divide 2"),
        ("llama.attention.head_count_kv", 0, "0 is not between 1 and"),
        ("llama.attention.key_length", 0, "0 is not between 1 and 256"),
        ("llama.attention.key_length", 258, "258 is not between 1 and 256"),
        ("llama.attention.key_length", 15, "heads of 15 are not supported"),
        ("llama.attention.value_length", 8, "8 is not supported beside heads of 16"),
        ("llama.rope.dimension_count", 8, "8 is not supported beside heads of 16"),
        ("llama.expert_count", 8, "it is not understood"),
        ("llama.attention.sliding_window", 512, "it is not understood"),
        ("llama.something_new", 1, "it is not understood"),
    ] {
        check(key, key, holds, |file| file.set(key, U32, number(value)));
    }
    for (key, value, holds) in [
        ("llama.rope.freq_base", f32::NAN, "NaN is not between"),
        ("llama.rope.freq_base", 0.0, "0 is not between"),
        ("llama.attention.layer_norm_rms_epsilon", f32::NAN, "NaN is not between"),
        ("llama.attention.layer_norm_rms_epsilon", -1.0, "-1 is not between"),
        ("llama.rope.scale_linear", 2.0, "it is not understood"),
    ] {
        check(key, key, holds, |file| file.set(key, F32, value.to_le_bytes()));
    }
    let wide = number(64);
    check("numbers of heads that differ", "llama.attention.head_count_kv", "an array, not an integer", |file| {
        file.set("llama.attention.head_count_kv", ARRAY, array(U32, &[wide.to_vec()]));
    });
    check("an epsilon that is missing", "llama.attention.layer_norm_rms_epsilon", "it is missing", |file| {
        file.remove("llama.attention.layer_norm_rms_epsilon");
    });
    for (scaling, factor, key) in [("yarn", 1.0, "type"), ("linear", 2.0, "factor")] {
        check(scaling, &format!("llama.rope.scaling.{key}"), "is not supported", |file| {
            file.set("llama.rope.scaling.type", TEXT, text(scaling));
            file.set("llama.rope.scaling.factor", F32, f32::to_le_bytes(factor));
        });
    }
    check("another family", "general.architecture", "\"gemma\" is not supported", |file| {
        file.set("general.architecture", TEXT, text("gemma"));
    });
    // What changes nothing is no reason to refuse.
    let mut file = File::model(0, 1);
    file.set("llama.rope.scaling.type", TEXT, text("linear"));
    file.set("llama.rope.scaling.factor", F32, 1_f32.to_le_bytes());
    file.set("llama.expert_count", U32, number(0));
    file.set("llama.attention.key_length", U32, number(16));
    file.set("llama.rope.freq_base", F32, 500_000_f32.to_le_bytes());
    let (model, _) = outcome(write(&file).path()).unwrap();
    assert_eq!((model.config.head, model.config.rotary_base), (16, 500_000.0), "config");
}

/// Sizes that fit the limits and each other, and tensors that are not there: whoever takes the memory first fails here.
#[test]
fn memory_is_taken_for_what_is_there_and_not_for_what_is_claimed() {
    check("a config without matrices", "tensor token_embd.weight", "its shape is", |file| {
        for (key, value) in [("block_count", 1000), ("embedding_length", 1 << 16), ("attention.head_count", 256)] {
            file.set(&format!("llama.{key}"), U32, u32::to_le_bytes(value));
        }
        file.set("llama.vocab_size", U32, (1_u32 << 24).to_le_bytes());
    });
}

#[test]
fn a_vocabulary_that_does_not_fit_is_refused() {
    check("words", "tokenizer.ggml.model", "\"llama\" is not supported", |file| {
        file.set("tokenizer.ggml.model", TEXT, text("llama"));
    });
    check("another pre-tokenizer", "tokenizer.ggml.pre", "\"tekken\" is not supported", |file| {
        file.set("tokenizer.ggml.pre", TEXT, text("tekken"));
    });
    check("a token twice", "tokenizer.ggml.tokens", "a token is there twice", |file| {
        file.set("tokenizer.ggml.tokens", ARRAY, texts(&vec!["a"; 269]));
    });
    check("numbers", "tokenizer.ggml.tokens", "not an array of texts", |file| {
        file.set("tokenizer.ggml.tokens", ARRAY, array(U32, &[]));
    });
    check("kinds", "tokenizer.ggml.token_type", "it has 0 elements for 269 tokens", |file| {
        file.set("tokenizer.ggml.token_type", ARRAY, array(5, &[]));
    });
    check("a merge of one", "tokenizer.ggml.merges", "no pair", |file| {
        file.set("tokenizer.ggml.merges", ARRAY, texts(&["ab"]));
    });
    check("a merge of nothing known", "tokenizer", "", |file| {
        file.set("tokenizer.ggml.merges", ARRAY, texts(&["sé nothing"]));
    });
    check("an end that is no token", "tokenizer.ggml.eos_token_id", "no token 4000", |file| {
        file.set("tokenizer.ggml.eos_token_id", U32, 4000_u32.to_le_bytes());
    });
}

#[test]
fn a_tokenizer_with_ids_beyond_the_models_is_refused() {
    let model = common::package().join("datasets/models/llama-f16");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        fs::copy(model.join(file), folder.path().join(file)).unwrap();
    }
    let load = |words: u32| {
        let mut tokenizer = json("datasets/models/llama-f16/tokenizer.json");
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        (vocabulary.len() as u32..words).for_each(|id| drop(vocabulary.insert(format!("more{id}"), json!(id))));
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        Judge::load(&Device::cpu(), folder.path(), None)
    };
    assert!(load(299).is_ok(), "as many as the model has rows for");
    let error = load(304).expect_err("five words more");
    assert!(error.to_string().ends_with("vocab: the tokenizer has ids up to 303, the model knows 299"), "{error}");
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("of the same model")), "{error:?}");
}

#[test]
fn templates_that_cannot_be_used_are_refused() {
    for (template, holds) in [
        ("{% for m in messages %}", "syntax error"),
        ("{{ 1 / 0 }}", "unable to calculate"),
        ("a fixed text", "does not give a message's content once"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "does not give a message's content once"),
        ("{{ raise_exception('only\nsystems') }}", "only systems"),
        ("{{ unheard_of() }}", "unknown function"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "fuel"),
        ("{% for m in messages %}{{ m.content * 100000000 }}{% endfor %}", "fuel"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ""),
        ("{% for m in messages %}{{ m.content | length }} {{ m.content }}{% endfor %}", "changes with the prompt"),
    ] {
        check(template, "chat_template", holds, |file| file.set("tokenizer.chat_template", TEXT, text(template)));
    }
    check("none", "tokenizer.chat_template", "it is missing", |file| file.remove("tokenizer.chat_template"));
}

#[test]
fn a_text_cannot_leave_its_turn() {
    let (_, tokenizer) = outcome(write(&File::model(0, 1)).path()).unwrap();
    assert_eq!(tokenizer.vocabulary(), 269, "the vocabulary");
    let plain = |text: &str| tokenizer.encode(text).unwrap();
    let (end, start) = (0, 1);
    let around = |text: &str| {
        let (before, after) = (plain("user\n"), [vec![end], plain("\n"), vec![start], plain("assistant\n")].concat());
        [vec![start], before, plain(text), after].concat()
    };
    let spelled = "<|end|>\n<|start|>assistant\nhi";
    for text in ["hi", "", spelled, "<|<|end|>end|>", "user\u{f8fe}"] {
        assert_eq!(tokenizer.prefix(text).unwrap(), around(text), "{text:?}");
        assert!(plain(text).iter().all(|id| *id > start), "{text:?} has no special token");
    }
    // The template cuts white space off.
    assert_eq!(tokenizer.prefix(" \n hi \n").unwrap(), around("hi"), "trimmed");
    let again = [
        vec![end],
        plain("\n"),
        vec![start],
        plain("user\nAnswer my question again."),
        vec![end],
        plain("\n"),
        vec![start],
        plain("assistant\n"),
    ];
    assert_eq!(tokenizer.again(), again.concat(), "again");
    let many: Vec<String> = (0..100).map(|i| format!("text {i} {spelled}")).collect();
    let one_by_one: Vec<_> = many.iter().map(|text| plain(text)).collect();
    assert_eq!(tokenizer.encode_all(&many).unwrap(), one_by_one, "in parallel");
}

/// Each pre-tokenizer parts texts in its own way, which the merges show.
#[test]
fn pre_tokenizers_differ_where_they_must() {
    for (pre, digits, spaces, composed) in [
        ("smollm", vec!["1", "2", "3", "4", "5"], vec!["Ċ", "Ċ", "h"], false),
        ("gpt-2", vec!["123", "45"], vec!["Ċ", "Ċ", "h"], false),
        ("llama-bpe", vec!["123", "45"], vec!["ĊĊ", "h"], false),
        ("qwen2", vec!["1", "2", "3", "4", "5"], vec!["ĊĊ", "h"], true),
    ] {
        let mut file = File::model(0, 1);
        file.set("tokenizer.ggml.pre", TEXT, text(pre));
        let (_, tokenizer) = outcome(write(&file).path()).unwrap();
        let id = |token: &str| {
            let bytes = &file.values.iter().find(|(key, _, _)| key == "tokenizer.ggml.tokens").unwrap().2;
            let mut at = 12;
            (0..).find(|_| {
                let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
                let found = &bytes[at + 8..at + 8 + length] == token.as_bytes();
                at += 8 + length;
                found
            })
        };
        let ids = |tokens: &[&str]| tokens.iter().map(|token| id(token).unwrap()).collect::<Vec<u32>>();
        assert_eq!(tokenizer.encode("12345").unwrap(), ids(&digits), "{pre}: digits");
        assert_eq!(tokenizer.encode("\n\nh").unwrap(), ids(&spaces), "{pre}: lines");
        assert_eq!(tokenizer.encode(" hi").unwrap(), ids(&["Ġhi"]), "{pre}: a word takes its space");
        let length = tokenizer.encode("e\u{301}").unwrap().len();
        assert_eq!(length, if composed { 2 } else { 3 }, "{pre}: normal form");
    }
    assert_eq!([0, b' ', b'\n', b'A', 0xad].map(byte_token), ['Ā', 'Ġ', 'Ċ', 'A', 'Ń'], "letters for bytes");
}

/// The ids of the real model are those of transformers.
#[test]
fn ids_equal_those_of_transformers() {
    let Some(path) = language_model() else { return };
    let tokenizer = ChatTokenizer::open(&path).unwrap();
    let reference = json("datasets/reference/smollm2_ids.json");
    let ids = |ids: &Value| -> Vec<u32> { serde_json::from_value(ids.clone()).unwrap() };
    let rows = |key: &str| reference[key].as_array().unwrap();
    assert_eq!(tokenizer.vocabulary(), 49_152, "the vocabulary");
    assert_eq!(tokenizer.again(), ids(&reference["again_ids"]), "again");
    for row in rows("rows") {
        let (ids, start) = (ids(&row["ids"]), row["start"].as_u64().unwrap() as usize);
        assert_eq!(tokenizer.prefix(row["prompt"].as_str().unwrap()).unwrap(), ids[..start], "{}", row["prompt"]);
        assert_eq!(tokenizer.encode(row["response"].as_str().unwrap()).unwrap(), ids[start..], "{}", row["response"]);
    }
    for row in rows("plain") {
        assert_eq!(tokenizer.encode(row["text"].as_str().unwrap()).unwrap(), ids(&row["ids"]), "{}", row["text"]);
    }
    for row in rows("prefixes") {
        assert_eq!(tokenizer.prefix(row["text"].as_str().unwrap()).unwrap(), ids(&row["ids"]), "{}", row["text"]);
    }
    assert!(rows("rows").len() > 10 && rows("plain").len() > 25 && rows("prefixes").len() > 15, "there are rows");
    // What people own beside the repository: responses that may not be copied. The longest was cut when it was recorded.
    for row in common::shared("reference/smollm2.json").iter().flat_map(|shared| shared["rows"].as_array().unwrap()) {
        let (ids, start) = (ids(&row["ids"]), row["start"].as_u64().unwrap() as usize);
        assert_eq!(tokenizer.prefix(row["prompt"].as_str().unwrap()).unwrap(), ids[..start], "{}", row["prompt"]);
        let response = tokenizer.encode(row["response"].as_str().unwrap()).unwrap();
        assert!(response.starts_with(&ids[start..]), "{}", row["response"]);
        assert!(response.len() == ids.len() - start || ids.len() > 1000, "{}", row["response"]);
    }
}

#[test]
fn a_response_that_is_all_alike_is_encoded() {
    let Some(path) = language_model() else { return };
    let tokenizer = ChatTokenizer::open(&path).unwrap();
    for text in [" ".repeat(1 << 20) + "x", "\n ".repeat(1 << 19), "a".repeat(1 << 20), "<|im_end|>".repeat(1 << 16)] {
        let ids = tokenizer.encode(&text).unwrap();
        assert!(ids.len() < text.len() && ids.iter().all(|id| *id > 16), "{:?}: {} ids", &text[..10], ids.len());
    }
}

/// The small model as transformers writes it: a folder of safetensors in the type that `kind` names, in one file or two.
fn transformers(kind: u32, parts: usize) -> (TempDir, File) {
    let mut file = File::model(kind, 11);
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"model_type": "llama", "vocab_size": 269, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null, "hidden_act": "silu",
        "tie_word_embeddings": true, "attention_bias": false, "torch_dtype": "float16"});
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let names = [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"),
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight"),
        ("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"),
        ("blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight"),
        ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"),
        ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
    ];
    let mut map = serde_json::Map::new();
    for part in 0..parts {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        let name = if parts == 1 { "model.safetensors".to_owned() } else { format!("part-{part}.safetensors") };
        for (from, to) in names.into_iter().skip(part).step_by(parts) {
            let tensor = file.tensor(from);
            let mut bytes = tensor.data.clone();
            if from.contains("attn_q") || from.contains("attn_k") {
                // Row 2 i of a head here is row i there, and row 2 i + 1 is row i + 8.
                let length = bytes.len() / tensor.dimensions[1] as usize;
                for (to, row) in bytes.chunks_exact_mut(length).enumerate() {
                    let (head, at) = (to / 16, to % 16);
                    let from = head * 16 + if at < 8 { 2 * at } else { 2 * (at - 8) + 1 };
                    row.copy_from_slice(&tensor.data[from * length..][..length]);
                }
            }
            let dtype = match tensor.kind {
                0 => "F32",
                1 => "F16",
                _ => "BF16",
            };
            let shape: Vec<u64> = tensor.dimensions.iter().rev().copied().collect();
            let end = data.len() + bytes.len();
            header.insert(to.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [data.len(), end]}));
            data.extend(bytes);
            map.insert(to.into(), json!(name));
        }
        let header = Value::from(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    if parts > 1 {
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
    (folder, file)
}

#[test]
fn safetensors_are_the_same_model() {
    for (kind, parts) in [(0, 1), (1, 1), (30, 1), (1, 2), (0, 3)] {
        let (folder, file) = transformers(kind, parts);
        let here = LlamaModel::open(folder.path()).unwrap_or_else(|error| panic!("{kind} in {parts}: {error}"));
        let there = LlamaModel::open(write(&file).path()).unwrap();
        assert_eq!(here.config, there.config, "config");
        // Numbers and their order, by what Debug shows of them.
        assert!(format!("{here:?}") == format!("{there:?}"), "{kind} in {parts} parts");
    }
}

#[test]
fn a_folder_of_safetensors_that_lies_is_refused() {
    let check = |what: &str, begins: &str, holds: &str, damage: &dyn Fn(&Path)| {
        let (folder, _) = transformers(1, 2);
        damage(folder.path());
        let error = LlamaModel::open(folder.path()).map(|_| ()).unwrap_err();
        assert!(error.remedy().is_some(), "{what}: a remedy for {error}");
        let refusal = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        assert!(refusal.starts_with(begins) && refusal.contains(holds), "{what}: {refusal}");
    };
    let config = |key: &'static str, value: Value, holds: &str| {
        check(key, &format!("config.json: {key}: "), holds, &|folder| {
            let path = folder.join("config.json");
            let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            config[key] = value.clone();
            fs::write(path, config.to_string()).unwrap();
        });
    };
    config("model_type", json!("qwen2"), "\"qwen2\" is not supported");
    config("hidden_act", json!("gelu"), "\"gelu\" is not supported");
    for key in ["attention_bias", "mlp_bias"] {
        config(key, json!(true), "not supported");
    }
    config("sliding_window", json!(4096), "not supported");
    config("quantization_config", json!({"bits": 4}), "not supported");
    config("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), "\"llama3\" is not supported");
    config("rope_scaling", json!({"type": "linear", "factor": 2.0}), "\"linear\" is not supported");
    config("rope_parameters", json!({"rope_type": "yarn"}), "\"yarn\" is not supported");
    config("rope_parameters", json!({"rope_type": "default", "rope_theta": 5.0}), "contradicts 10000");
    config("rope_theta", json!(-1.0), "-1 is not between");
    config("rms_norm_eps", json!(2.0), "2 is not between");
    config("num_key_value_heads", json!(0), "0 is not between");
    config("num_hidden_layers", json!(1_u64 << 40), "is not between");
    config("head_dim", json!(7), "heads of 7");
    config("head_dim", json!(512), "512 is not between 1 and 256");
    config("hidden_size", json!(-32), "-32");
    let index = |tensor: &'static str, file: Value, begins: &str, holds: &str| {
        check(tensor, begins, holds, &|folder| {
            let path = folder.join("model.safetensors.index.json");
            let mut index: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            index["weight_map"][tensor] = file.clone();
            fs::write(path, index.to_string()).unwrap();
        });
    };
    let map = "model.safetensors.index.json: weight_map: ";
    for outside in ["../part-0.safetensors", "/etc/passwd", "a/b", "..", ""] {
        index("model.norm.weight", json!(outside), map, "is no name of a file in this folder");
    }
    index("model.norm.weight", json!("part-7.safetensors"), "part-7.safetensors: ", "");
    index(
        "model.norm.weight",
        json!("part-0.safetensors"),
        "part-0.safetensors: tensor model.norm.weight: ",
        "missing",
    );
    let bias = "model.layers.0.self_attn.q_proj.bias";
    let place = format!("model.safetensors.index.json: tensor {bias}: ");
    index(bias, json!("part-0.safetensors"), &place, "no part of a Llama model");
    check("no weights", "model.safetensors: ", "", &|folder| {
        fs::remove_file(folder.join("model.safetensors.index.json")).unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damaged_file_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        everywhere in any::<bool>(),
    ) {
        let (header, data) = File::model(3, 2).parts();
        let end = if everywhere { header.len() + data.len() } else { header.len() };
        let mut bytes = [header, data].concat();
        for (at, byte) in flips {
            let at = at.index(end);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // Accepted or refused; that it comes back is what counts, and that a refusal names the file.
        if let Err(text) = outcome(written(&bytes).path()) {
            prop_assert!(text.starts_with(FILE), "{text}");
        }
    }
}
