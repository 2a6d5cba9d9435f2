//! The house's rules, read from the code itself: imports go down only, every kernel has its shelf, floats and `unsafe` stay in
//! their rooms, and only `src/device/` knows wgpu. ARCHITECTURE.md says why.
#![expect(clippy::panic, clippy::expect_used, reason = "what cannot be read must fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

use tauscore::KERNELS;

/// Floors from the ground up. A module may name its own floor and those below.
const FLOORS: [&[&str]; 7] = [
    &["error", "data", "fixed", "matrix", "progress", "whole", "Error", "Result"],
    &["device"],
    &["nn", "models"],
    &["stages", "KERNELS"],
    &["pipeline", "config", "state", "ledger", "adversary"],
    &["report"],
    &["cli"],
];

/// Files in which any float arithmetic is an error.
const EXACT: [&str; 38] = [
    "src/fixed.rs",
    "src/ledger/approvals.rs",
    "src/matrix.rs",
    "src/nn/embeddings.rs",
    "src/nn/exact/arithmetic.rs",
    "src/nn/exact/attention.rs",
    "src/nn/exact/embed.rs",
    "src/nn/exact/linear.rs",
    "src/nn/exact/model.rs",
    "src/nn/exact/norm.rs",
    "src/nn/exact/pool.rs",
    "src/nn/exact/quantise.rs",
    "src/nn/exact/ranges.rs",
    "src/nn/exact/row.rs",
    "src/nn/products.rs",
    "src/pipeline/audit/concentration.rs",
    "src/pipeline/audit/copies.rs",
    "src/pipeline/audit/mod.rs",
    "src/stages/copies/bank.rs",
    "src/stages/copies/evidence.rs",
    "src/stages/copies/kind.rs",
    "src/stages/copies/mod.rs",
    "src/stages/copies/shared.rs",
    "src/stages/copies/text.rs",
    "src/stages/encode/exact.rs",
    "src/stages/encode/self_test.rs",
    "src/stages/loss/answer.rs",
    "src/stages/loss/arrays.rs",
    "src/stages/loss/exact.rs",
    "src/stages/loss/hollow.rs",
    "src/stages/loss/mod.rs",
    "src/stages/novelty/exact.rs",
    "src/stages/novelty/mod.rs",
    "src/stages/novelty/nearest.rs",
    "src/stages/novelty/products.rs",
    "src/stages/weights/tally.rs",
    "src/stages/emission.rs",
    "src/stages/yuma/mod.rs",
];

/// The one file that may be unsafe.
const UNSAFE: &str = "src/nn/gemm.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files below `folder` whose names end in `.extension`, as paths from the root with slashes.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| end == extension) {
                let inner = path.strip_prefix(root()).expect("below the root");
                found.push(inner.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/"));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} below {folder}");
    found
}

/// The code of a file: without comments, and without the unit tests at its end.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| *line != "mod tests {");
    let code = |line: &str| -> String {
        if line.trim_start().starts_with("//") {
            return String::new();
        }
        line.split(" // ").next().unwrap_or_default().to_owned()
    };
    lines.map(|line| code(line) + "\n").collect()
}

/// The module that a source file is, as segments: `src/nn/mod.rs` and `src/nn.rs` are `["nn"]`.
fn module(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    inner.split('/').filter(|part| *part != "mod").map(str::to_owned).collect()
}

/// Whether `character` can stand in a name.
fn in_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The paths of one use tree, each prefixed with `prefix`; reads to the tree's end.
fn tree(text: &mut &str, mut prefix: Vec<String>, paths: &mut Vec<Vec<String>>) {
    loop {
        *text = text.trim_start();
        if let Some(rest) = text.strip_prefix('{') {
            *text = rest;
            while !text.trim_start().starts_with('}') && !text.trim_start().is_empty() {
                tree(text, prefix.clone(), paths);
                *text = text.trim_start().trim_start_matches(',');
            }
            *text = text.trim_start().trim_start_matches('}');
            return;
        }
        let end = text.find(|character| !in_name(character)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        match name {
            "" if rest.starts_with('*') => *text = &rest[1..],
            "super" => {
                prefix.pop();
                *text = rest;
            }
            "self" | "crate" => *text = rest,
            _ => {
                prefix.push(name.to_owned());
                *text = rest;
            }
        }
        if let Some(rest) = text.strip_prefix("::")
            && !name.is_empty()
        {
            *text = rest;
            continue;
        }
        if let Some(rest) = text.trim_start().strip_prefix("as ") {
            *text = rest.trim_start().trim_start_matches(in_name);
        }
        paths.push(prefix);
        return;
    }
}

/// Every path that begins with `crate::` or `super::`, from the crate's root.
fn paths(file: &str, code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = [rest.find("crate::"), rest.find("super::")].into_iter().flatten().min() {
        let whole_word = !rest[..at].ends_with(in_name);
        let mut here = &rest[at..];
        if whole_word {
            let prefix = if here.starts_with("crate") { Vec::new() } else { module(file) };
            tree(&mut here, prefix, &mut paths);
            rest = here;
        } else {
            rest = &rest[at + "crate::".len()..];
        }
    }
    paths
}

fn floor(segment: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&segment))
}

/// What is wrong with a file's imports.
fn bad_imports(file: &str, text: &str) -> Vec<String> {
    let own = module(file);
    let Some(level) = own.first().and_then(|segment| floor(segment)) else {
        return vec![format!("{file}: the module stands on no floor; give it one in tests/architecture.rs")];
    };
    let room = |path: &[String]| (path.first()? == "stages").then(|| path.get(1).cloned()).flatten();
    let mut bad = Vec::new();
    for path in paths(file, &code(text)) {
        // `use super::*` at the top of a floor names nothing.
        let Some(first) = path.first() else { continue };
        let named = path.join("::");
        match floor(first) {
            None => bad.push(format!("{file}: {named} stands on no floor")),
            Some(other) if other > level => bad.push(format!("{file}: {named} is above it")),
            Some(_) => {}
        }
        if let (Some(here), Some(there)) = (room(&own), room(&path))
            && here != there
        {
            bad.push(format!("{file}: {named} is another room of stages"));
        }
    }
    bad
}

/// Whether the code holds `word` with nothing of a name around it.
fn holds_word(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(in_name) && !code[at + word.len()..].starts_with(in_name))
}

/// What code computes that differs between machines: functions of the platform's mathematics, whose last digits do, fused products, and
/// sums in no fixed order.
fn unportable(code: &str) -> Vec<&'static str> {
    let words = [
        ".exp(",
        ".exp2(",
        ".exp_m1(",
        ".ln(",
        ".ln_1p(",
        ".log(",
        ".log2(",
        ".log10(",
        ".powf(",
        ".powi(",
        ".cbrt(",
        ".hypot(",
        ".sin(",
        ".cos(",
        ".tan(",
        ".tanh(",
        ".mul_add(",
        "par_iter",
        "rayon",
    ];
    words.into_iter().filter(|word| code.contains(word)).collect()
}

/// What a file holds that belongs into another room.
fn misplaced(file: &str, text: &str) -> Vec<String> {
    // Unit tests count here.
    let all: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut bad = Vec::new();
    if all.contains("wgpu::") && !file.starts_with("src/device/") {
        bad.push(format!("{file}: wgpu is the business of src/device/ alone"));
    }
    if holds_word(&all, "unsafe") && file != UNSAFE {
        bad.push(format!("{file}: unsafe has its room in {UNSAFE}"));
    }
    bad
}

#[test]
fn imports_go_down_only() {
    let (mut bad, mut read_paths) = (Vec::new(), 0);
    for file in files("src", "rs").iter().filter(|file| !["src/lib.rs", "src/main.rs"].contains(&file.as_str())) {
        let text = read(file);
        read_paths += paths(file, &code(&text)).len();
        bad.extend(bad_imports(file, &text));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(read_paths > 100, "only {read_paths} imports were found in the whole of src/: the reader is broken");
}

#[test]
fn wgpu_and_unsafe_stay_in_their_rooms() {
    let bad: Vec<String> = files("src", "rs").iter().flat_map(|file| misplaced(file, &read(file))).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(holds_word(&code(&read(UNSAFE)), "unsafe"), "{UNSAFE} no longer needs its exception");
}

#[test]
fn the_exact_zone_denies_floats() {
    for file in EXACT {
        assert!(
            read(file).lines().any(|line| line == "#![deny(clippy::float_arithmetic)]"),
            "{file} is of the exact zone and lacks #![deny(clippy::float_arithmetic)]"
        );
    }
}

/// What differs between machines, compilers or runs, or rounds once where the SDKs round twice.
const UNFIXED: [&str; 7] = [".exp()", ".ln()", ".powf(", ".powi(", ".mul_add(", "rayon", ".sum::<f"];

#[test]
fn the_sdks_arithmetic_is_plain_and_in_order() {
    for file in files("src/stages/conform", "rs") {
        let text = read(&file);
        let found: Vec<&str> = UNFIXED.into_iter().filter(|unfixed| code(&text).contains(unfixed)).collect();
        assert!(found.is_empty(), "{file}: {found:?} is not the same everywhere");
    }
}

#[test]
fn floats_behind_the_scores_are_portable() {
    let mut read_files = 0;
    for file in files("src/stages/weights", "rs") {
        read_files += 1;
        assert_eq!(
            unportable(&code(&read(&file))),
            Vec::<&str>::new(),
            "{file}: other bits on other machines; take the crate libm"
        );
    }
    assert!(read_files > 10, "only {read_files} files of src/stages/weights were read");
    assert_eq!(unportable("x.powi(2) + x.ln()"), [".ln(", ".powi("], "they are found");
}

#[test]
fn every_kernel_has_its_shader_and_every_shader_its_twin() {
    let mut shaders = files("shaders", "wgsl");
    let shared: Vec<String> = shaders.extract_if(.., |file| file.starts_with("shaders/shared/")).collect();
    let mut table: Vec<String> = KERNELS.iter().map(|kernel| format!("shaders/{}.wgsl", kernel.name)).collect();
    for (kernel, file) in KERNELS.iter().zip(&table) {
        assert!(shaders.contains(file), "{}: there is no {file}", kernel.name);
        for &variant in kernel.wgsl.variants() {
            let source = kernel.wgsl.of(variant);
            assert!(source.ends_with(&read(file)), "{} {variant}: its source does not end with {file}", kernel.name);
        }
    }
    table.sort();
    assert_eq!(shaders, table, "shaders outside shaders/shared/, and KERNELS: each once");
    for file in &shared {
        let text = read(file);
        let mut sources = KERNELS.iter().flat_map(|kernel| kernel.wgsl.variants().iter().map(|&of| kernel.wgsl.of(of)));
        assert!(sources.any(|source| source.contains(&text)), "{file} is part of no kernel");
    }
    for file in &shaders {
        let text = read(file);
        let line = text.lines().next().unwrap_or_default();
        let twin = line.strip_prefix("// Twin: ").and_then(|rest| rest.find(".rs").map(|end| &rest[..end + 3]));
        let twin = twin.unwrap_or_else(|| panic!("{file}: line 1 is not `// Twin: src/....rs. ...` but {line:?}"));
        assert!(root().join(twin).is_file(), "{file}: its twin {twin} is not there");
        assert!(read(twin).contains(file.as_str()), "{twin} does not name its shader {file}");
    }
}

#[test]
fn the_rules_can_be_broken() {
    let count = |file: &str, text: &str| bad_imports(file, text).len();
    assert_eq!(
        count("src/nn/embed.rs", "use crate::device::{Call, Device};\nuse crate::{Error, Result};\n"),
        0,
        "down"
    );
    assert_eq!(count("src/nn/embed.rs", "use crate::stages::score;\n"), 1, "up");
    assert_eq!(
        count("src/nn/embed.rs", "use crate::{\n    Error,\n    stages::{loss, novelty},\n};\n"),
        2,
        "in groups"
    );
    assert_eq!(count("src/nn/embed.rs", "fn f() { crate::pipeline::score() }\n"), 1, "in line");
    assert_eq!(count("src/stages/score.rs", "use crate::stages::loss::cosine;\n"), 1, "sideways");
    assert_eq!(
        count("src/stages/loss/mod.rs", "use super::score::ScoreConfig as S;\nuse super::tokens;\n"),
        2,
        "by super"
    );
    assert_eq!(count("src/stages/loss/cosine.rs", "use super::{Params, super::weights};\n"), 1, "by super in a group");
    assert_eq!(count("src/stages/loss/cosine.rs", "use super::Params;\nuse crate::nn;\n"), 0, "within a room");
    assert_eq!(count("src/device/gpu.rs", "use crate::nowhere::X;\n"), 1, "a floor nobody knows");
    assert_eq!(count("src/attic/mod.rs", ""), 1, "a module on no floor");
    assert_eq!(count("src/nn/embed.rs", "// crate::stages\nlet a = 1; // crate::stages\n"), 0, "comments do not count");

    assert_eq!(misplaced("src/nn/embed.rs", "let x: wgpu::Buffer;").len(), 1, "wgpu upstairs");
    assert_eq!(misplaced("src/device/gpu.rs", "let x: wgpu::Buffer;").len(), 0, "wgpu at home");
    assert_eq!(misplaced("src/device/gpu.rs", "#[expect(unsafe_code)]\nunsafe { x() }").len(), 1, "unsafe elsewhere");
    assert_eq!(misplaced(UNSAFE, "unsafe { x() }").len(), 0, "unsafe at home");
    assert_eq!(misplaced("src/a.rs", "// unsafe\n#![deny(unsafe_code)]").len(), 0, "unsafe in words only");
}

#[test]
fn the_example_daemon_stays_short_and_handles_its_errors() {
    let text = read("examples/daemon.rs");
    let lines = text.lines().count();
    assert!(lines < 80, "examples/daemon.rs has {lines} lines; it is to be read at a glance");
    for word in [".unwrap()", ".expect(", "panic!", "crate::"] {
        assert!(!text.contains(word), "examples/daemon.rs: {word}");
    }
}

#[test]
fn the_example_subnet_is_a_state_of_the_round_that_ships() {
    let state = tauscore::stages::yuma::State::read(&root().join("datasets/examples/subnet.json")).expect("legal");
    let round = read("datasets/gsm8k/round.jsonl");
    let rows = round.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    for row in rows {
        let uid = row["uid"].as_u64().expect("a uid") as usize;
        assert_eq!(state.hotkeys.get(uid).map(String::as_str), row["miner"].as_str(), "uid {uid}");
    }
}

#[test]
fn the_criteria_in_the_readme_are_the_defaults() {
    let readme = read("README.md");
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of TOML");
    let parsed = tauscore::config::Config::parse(block, "README.md").expect("legal");
    assert_eq!(parsed, tauscore::config::Config::default().effective(), "every value shown is the default");
    for line in parsed.to_toml().lines() {
        let key = line.split(' ').next().unwrap_or_default();
        assert!(block.contains(key), "README.md does not show {key:?}");
    }
}
