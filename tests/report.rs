//! The report: whatever stands in the data, the page is one file of balanced HTML that loads nothing, runs nothing and names the copycats.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod common;

use std::fs;
use std::path::Path;

use common::package;
use tauscore::config::{Config, LossKind, Precision};
use tauscore::data::{Options, Round, Row};
use tauscore::device::Device;
use tauscore::pipeline::audit::{Audit, Concentration, CopiedRow, Neuron};
use tauscore::pipeline::{self, Models, Outcome, Similarity};
use tauscore::report::{Cluster, Copier, History, HistoryEntry, Miner, Proof, Report, Scored};
use tauscore::stages::yuma::{Epoch, State};

/// Elements that have no end.
const VOID: [&str; 3] = ["meta", "link", "br"];

/// Attributes that the page may have: none that runs, none that loads.
const ATTRIBUTES: &str = "lang charset name content http-equiv rel href class id aria-labelledby aria-label aria-hidden role tabindex scope \
                          colspan style title open viewbox x y x1 x2 y1 y2 cx cy r d width height transform";

/// Reads a page as a browser would, and refuses whatever is not balanced or not allowed. Gives its text.
fn checked(page: &str) -> String {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    let (mut open, mut text): (Vec<String>, String) = (Vec::new(), String::new());
    while let Some(at) = rest.find('<') {
        text += &rest[..at];
        rest = &rest[at + 1..];
        // A `>` may stand in a quoted value.
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let tag = &rest[..end.unwrap_or_else(|| panic!("a tag has no end: {}", &rest[..rest.len().min(80)]))];
        rest = &rest[tag.len() + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "what ends is what began last");
            continue;
        }
        let (name, mut attributes) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}> is no element");
        assert!(
            !["script", "iframe", "object", "embed", "img", "image", "use", "a", "form", "base"].contains(&name),
            "<{tag}>"
        );
        while let Some((key, more)) = attributes.split_once('=') {
            let key = key.trim().to_lowercase();
            // Attributes without a value may stand before it.
            for key in key.split_whitespace() {
                assert!(ATTRIBUTES.split(' ').any(|known| known == key), "{key} in <{tag}>");
            }
            let more = more.strip_prefix('"').unwrap_or_else(|| panic!("{key} is not quoted in <{tag}>"));
            let (value, more) = more.split_once('"').unwrap();
            if key.ends_with("href") {
                assert_eq!(value, "data:,", "<{tag}> loads");
            }
            attributes = more;
        }
        if name == "style" {
            let (style, more) = rest.split_once("</style>").unwrap();
            assert!(!style.contains("url(") && !style.contains("@import") && !style.contains("//"), "it loads");
            rest = more;
        } else if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "left open: {open:?}");
    assert!(page.contains("default-src 'none'"), "the policy stands in it");
    for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{7}', '\u{ad}'] {
        assert!(!page.contains(hidden), "{} is in the page", hidden.escape_unicode());
    }
    text
}

fn miner(name: &str, weight: f64, copies: usize) -> Miner {
    Miner {
        miner: name.to_owned(),
        uid: Some(7),
        prompts: 20,
        copies,
        novelty: 0.3,
        accuracy: 0.8,
        accuracy_interval: Some([0.7, 0.9]),
        score: weight,
        weight,
    }
}

fn copier(name: &str, responses: usize) -> Copier {
    Copier {
        miner: name.to_owned(),
        responses,
        of_responses: 20,
        evidence: 60.0,
        kinds: [("exact".to_owned(), responses)].into(),
        proof: Proof { prompt_id: "p1".into(), evidence: 90.0, excerpt: "the same words".into() },
    }
}

/// A round in which everybody answers everybody else's way by `similarity`.
fn round(names: &[String], copies: Vec<Cluster>, similarity: f64) -> Scored {
    let rows =
        (0..names.len()).map(|row| (0..=row).map(move |column| Some(if row == column { 1.0 } else { similarity })));
    Scored {
        prompts: Some(20),
        miners: names.iter().map(|name| miner(name, 1.0 / names.len() as f64, 0)).collect(),
        copies: Some(copies),
        similarity: Some(Similarity {
            miners: names.to_vec(),
            prompts: 20,
            similarity: rows.map(Iterator::collect).collect(),
        }),
        ..Scored::default()
    }
}

fn history(hotkey: &str) -> History {
    let entry = |number: u64| HistoryEntry {
        number,
        block: number * 360,
        criteria: "ab".repeat(32),
        changed: number == 3,
        responses: 100,
        copies: 4,
        weights: vec![(hotkey.to_owned(), 65_535), ("other".into(), (number * 1000) as u16)],
    };
    History { entries: (1..=5).map(entry).collect() }
}

#[test]
fn hostile_text_stays_text() {
    let hostile = [
        "<script>alert(1)</script>".to_owned(),
        "\"><img src=x onerror=alert(1)>'".to_owned(),
        "a\u{202e}gpj\u{2066}\u{200b}\u{feff}\u{ad}\u{7}b&amp;</title></style></svg>".to_owned(),
        "5".repeat(10_000),
        "</text><a href=\"javascript:alert(1)\">".to_owned(),
        String::new(),
    ];
    for text in &hostile {
        let names: Vec<String> = hostile.to_vec();
        let mut proof = copier(text, 19);
        proof.kinds = [(text.clone(), 19)].into();
        proof.proof = Proof { prompt_id: text.clone(), evidence: 1.0, excerpt: text.clone() };
        let mut of_round = round(&names, vec![Cluster { originator: text.clone(), copies: vec![proof] }], 0.5);
        of_round.criteria = Some((text.clone(), text.clone()));
        let state = State::read(&package().join("datasets/examples/subnet.json")).unwrap();
        let mut fields = state.into_fields();
        text.clone_into(&mut fields.hotkeys[3]);
        let state = State::new(fields).unwrap();
        let somebody = |uid| Neuron { uid, hotkey: text.clone() };
        let report = Report {
            source: text.clone(),
            rounds: vec![Scored { validator: Some(text.clone()), ..of_round.clone() }, of_round],
            audit: Some(Audit {
                concentration: vec![Concentration { name: "stake", largest: vec![(1, 5)], ..Concentration::default() }],
                copied_rows: vec![CopiedRow {
                    validator: somebody(1),
                    of: Some(somebody(2)),
                    evidence: text.clone(),
                    ..CopiedRow::default()
                }],
                ..Audit::default()
            }),
            history: Some(history(text)),
            digests: vec![(text.clone(), text.clone())],
            ..Report::from_state(&state, &Epoch::with_raw(&state))
        };
        let page = report.to_html();
        let found = checked(&page);
        assert!(page.len() < 300_000, "{} bytes: nobody's name fills the page", page.len());
        assert!(found.contains("hands in copies") || found.contains("hand in copies"), "it is said all the same");
    }
}

#[test]
fn the_copycats_are_named_first_with_whom_they_copied() {
    let names: Vec<String> = ["alice", "bob", "carol", "dora", "eve"].map(str::to_owned).into();
    let copies = vec![
        Cluster { originator: "alice".into(), copies: vec![copier("bob", 18), copier("carol", 9)] },
        Cluster { originator: "dora".into(), copies: vec![copier("carol", 8), copier("eve", 1)] },
    ];
    let page = |round: Scored| Report { rounds: vec![round], ..Report::default() }.to_html();
    let text = checked(&page(round(&names, copies.clone(), 0.5)));
    let start = text.find("How they stand").unwrap();
    let text: String = text[..start].to_owned();
    let places = [
        "2 miners hand in copies",
        "bob90 %18 of 20 answers copied from alice",
        "carol85 %17 of 20 answers copied from alice and dora",
        "1 more miner has a copy now and then: eve (1 of 20)",
    ]
    .map(|said| text.find(said).unwrap_or_else(|| panic!("{said:?} is not in {text:?}")));
    assert!(places.is_sorted(), "the surest first: {places:?}");

    // The same two validators: what one saw and what the other saw count together.
    let twice =
        Report { rounds: vec![round(&names, copies.clone(), 0.5), round(&names, copies, 0.5)], ..Report::default() };
    assert!(checked(&twice.to_html()).contains("36 of 40 answers copied from alice"), "sums over rounds");
    assert!(checked(&page(round(&names, vec![], 0.5))).contains("Nobody hands in copies"), "nobody");
    let unknown = Scored { copies: None, ..round(&names, vec![], 0.5) };
    assert!(!checked(&page(unknown)).contains("copies\""), "nothing is said of what is not known");
    assert!(checked(&Report::default().to_html()).contains("complete"), "a page of nothing");
}

#[test]
fn large_rounds_stay_small_pages() {
    for (miners, most) in [(256, 600_000), (2500, 2_000_000)] {
        let names: Vec<String> = (0..miners).map(|miner| format!("5Grwva{miner:042}")).collect();
        let ring = names[miners - 40..].iter().map(|name| copier(name, 20)).collect();
        let mut round = round(&names[..256], vec![Cluster { originator: names[1].clone(), copies: ring }], 0.5);
        round.miners = names.iter().map(|name| miner(name, 0.01, 0)).collect();
        if let Some(similarity) = &mut round.similarity {
            similarity.miners[216..].clone_from_slice(&names[miners - 40..]);
        }
        let page = Report { rounds: vec![round], ..Report::default() }.to_html();
        let text = checked(&page);
        assert!(page.len() < most, "{miners} miners: {} bytes", page.len());
        assert!(text.contains(&format!("The other {} miners", if miners == 256 { "206" } else { "2,450" })), "folded");
        let said =
            format!("128 of {} miners: copycats and whom they copied", if miners == 256 { "256" } else { "2,500" });
        assert!(text.contains(&said), "the map says what it leaves out");
        let marks = page.matches("class=\"copy\" d=").count();
        assert!(marks >= 80, "all 40 copycats have their marks, in the plot and beside the map: {marks}");
    }
}

/// Scores answers with the tiny model.
fn score(rows: Vec<Row>, precision: Precision) -> (Round, Outcome, Vec<Vec<f64>>) {
    let round = Round::from_rows(rows, [], Options::default()).unwrap().0;
    let embedder = common::embedder(&Device::cpu(), &package().join("datasets/models/f32-mean"), precision);
    let mut models = Models::new(&embedder, None);
    let mut config = Config::default();
    config.loss.kind = LossKind::Embedding;
    config.encoder.precision = precision;
    let outcome = pipeline::score(&mut models, &round, &[], None, &config, &mut |_| {}).unwrap();
    let row = |row: &u32| match models.embeddings().row(*row as usize) {
        tauscore::nn::Rows::Exact(values) => values.iter().map(|value| f64::from(*value) / 32_768.0).collect(),
        tauscore::nn::Rows::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
    };
    let embeddings = outcome.rows.iter().map(row).collect();
    (round, outcome, embeddings)
}

fn row(prompt: usize, miner: &str, response: String) -> Row {
    Row {
        prompt_id: format!("p{prompt}"),
        miner: miner.to_owned(),
        response,
        reference: Some("They meet at noon.".into()),
        block: Some(u64::from(miner.len() as u32)),
        ..Row::default()
    }
}

#[test]
fn similarities_are_means_of_cosines_over_common_prompts() {
    let mut rows = Vec::new();
    for prompt in 0..9 {
        for (miner, answer) in [("a", "noon"), ("bb", "half past three"), ("ccc", "noon"), ("dddd", "never")] {
            // `dddd` answers what nobody else does.
            let prompt = if miner == "dddd" { prompt + 100 } else { prompt };
            if miner != "bb" || prompt % 2 == 0 {
                rows.push(row(prompt, miner, format!("{answer}, train {prompt}")));
            }
        }
    }
    for precision in [Precision::Exact, Precision::F32] {
        let (round, outcome, embeddings) = score(rows.clone(), precision);
        let similarity = &outcome.similarity;
        assert_eq!((similarity.prompts, similarity.miners.len()), (18, 4), "all of them");
        let answers = |miner: &str| {
            let of = round.responses().iter().zip(&embeddings);
            let of = of.filter(|(response, _)| round.miner_of(response).unwrap().hotkey.as_str() == miner);
            of.map(|(response, row)| (response.prompt, row.clone())).collect::<Vec<_>>()
        };
        for (a, (name, means)) in similarity.miners.iter().zip(&similarity.similarity).enumerate() {
            assert_eq!(means.len(), a + 1, "a triangle");
            for (other, mean) in similarity.miners.iter().zip(means) {
                let (mine, theirs) = (answers(name), answers(other));
                let cosines: Vec<f64> = mine
                    .iter()
                    .filter_map(|(prompt, x)| {
                        let (_, y) = theirs.iter().find(|(of, _)| of == prompt)?;
                        Some(x.iter().zip(y).map(|(x, y)| x * y).sum())
                    })
                    .collect();
                let right = (!cosines.is_empty()).then(|| cosines.iter().sum::<f64>() / cosines.len() as f64);
                let near = mean
                    .zip(right)
                    .map_or(mean.is_none() && right.is_none(), |(found, right)| (found - right).abs() < 2e-4);
                assert!(near, "{name} and {other} in {precision}: {mean:?}, by hand {right:?}");
            }
        }
    }
}

#[test]
fn copiers_and_copied_are_compared_whatever_their_rank() {
    let copied = "The first train leaves Leeds at noon, another one comes from York half an hour later, and so they meet near Selby.";
    let mut rows: Vec<Row> =
        (0..300).map(|miner| row(0, &format!("m{miner}"), format!("They meet at {miner}."))).collect();
    rows.push(row(0, "first", copied.to_owned()));
    rows.push(row(0, "the_copycat", copied.to_owned()));
    let (_, outcome, _) = score(rows, Precision::Exact);
    let ranking: Vec<&str> = outcome.ranking().iter().map(|miner| miner.miner.as_str()).collect();
    let similarity = &outcome.similarity;
    assert_eq!(similarity.miners.len(), 256, "at most");
    assert!(ranking.iter().position(|name| *name == "the_copycat") >= Some(256), "he is not among the best");
    let [first, copycat] =
        ["first", "the_copycat"].map(|name| similarity.miners.iter().position(|miner| miner == name).unwrap());
    assert_eq!(similarity.similarity[first.max(copycat)][first.min(copycat)], Some(1.0), "the same");
    let places: Vec<usize> =
        similarity.miners.iter().map(|name| ranking.iter().position(|of| of == name).unwrap()).collect();
    assert!(places.is_sorted(), "the best first");
}

/// What `score` leaves, in a folder.
fn folder(out: &Path) {
    let rows = (0..3).flat_map(|prompt| {
        ["a", "bb", "ccc"].map(|miner| {
            row(prompt, miner, format!("{} {prompt}", if miner == "bb" { "one" } else { "noon, I think, it is noon" }))
        })
    });
    let (round, outcome, _) = score(rows.collect(), Precision::Exact);
    pipeline::write(out, &round, &outcome, &Config::default(), None::<&()>).unwrap();
}

#[test]
fn folders_are_read_and_damaged_ones_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    folder(&out);
    let report = Report::read(&out).unwrap();
    let [of] = report.rounds.as_slice() else { panic!("one round") };
    assert_eq!(
        (of.prompts, of.miners.len(), of.similarity.as_ref().unwrap().miners.len()),
        (Some(3), 3, 3),
        "all is read"
    );
    assert_eq!(of.criteria.as_ref().unwrap().1, Config::default().digest(), "the digest");
    let page = report.to_html();
    let text = checked(&page);
    for part in [
        "A round of 3 miners",
        "Accuracy against novelty",
        "How alike they answer",
        "Miners by score",
        "schema_version",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert_eq!(page, Report::read(&out).unwrap().to_html(), "the same bytes");

    // What was written before similarities were has all but the map.
    fs::remove_file(out.join("similarity.json")).unwrap();
    assert!(!checked(&Report::read(&out).unwrap().to_html()).contains("How alike"), "left out");
    for (file, text, field) in [
        ("similarity.json", "{\"miners\": [\"a\"], \"prompts\": 1, \"similarity\": [[1.0, 0.5]]}", "similarity"),
        ("copies.json", "[{\"originator\": \"a\"", "json"),
        ("miners.json", "[{\"miner\": \"a\"}]", "json"),
        (
            "epoch.json",
            "{\"chain\": {\"stake_weight\": [], \"consensus\": [], \"incentive\": [], \"dividends\": [], \"validator_trust\": [], \"emission\": [\"x\"]}}",
            "chain.emission[0]",
        ),
    ] {
        let whole = fs::read(out.join(file)).ok();
        fs::write(out.join(file), text).unwrap();
        let error = Report::read(&out).unwrap_err();
        assert!(
            error.to_string().contains(file) && error.to_string().contains(&format!(": {field}: ")),
            "{file}: {error}"
        );
        assert!(error.remedy().is_some(), "{file}");
        match whole {
            Some(bytes) => fs::write(out.join(file), bytes).unwrap(),
            None => fs::remove_file(out.join(file)).unwrap(),
        }
    }
    fs::create_dir(place.path().join("empty")).unwrap();
    let error = Report::read(&place.path().join("empty")).unwrap_err().to_string();
    assert!(error.contains("neither miners.json nor subnet.json"), "{error}");
    fs::write(place.path().join("ledger"), "tauscore ledger 1\n").unwrap();
    assert!(Report::read(&place.path().join("ledger")).unwrap_err().to_string().contains("ledger"), "by its beginning");
    // A report among the results is replaced with them.
    fs::write(out.join("report.html"), page).unwrap();
    folder(&out);
    assert!(!out.join("report.html").exists(), "an old page is not of the new results");
}

#[test]
fn a_state_shows_every_validator_and_earner() {
    let state = State::read(&package().join("datasets/examples/subnet.json")).unwrap();
    let text = checked(&Report::from_state(&state, &Epoch::with_raw(&state)).to_html());
    for hotkey in state.hotkeys.iter().filter(|hotkey| !hotkey.starts_with("copycat")) {
        assert!(text.contains(hotkey.as_str()), "{hotkey} has stake or weight");
    }
    assert_eq!(text.matches("of stake, validator trust").count(), 2, "the two who weigh");
    assert!(text.contains("Weights against consensus") && text.contains("Incentive and dividends"), "both drawings");
    let report = Report { history: Some(history("leader")), ..Report::default() };
    let page = report.to_html();
    assert!(
        checked(&page).contains("The record") && page.matches("class=\"rule\"").count() == 1,
        "one change of criteria"
    );
    let path = page.split("class=\"line l0\" d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(path.matches(['M', 'L']).count(), 5, "a point an entry: {path}");
}

/// The command as a user runs it.
#[cfg(feature = "cli")]
#[test]
fn the_command_writes_a_page() {
    let place = tempfile::tempdir().unwrap();
    let state = package().join("datasets/examples/subnet.json").display().to_string();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tauscore"))
            .args(args)
            .current_dir(place.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, page, _) = run(&["report", &state, "-o", "-"]);
    assert_eq!(code, Some(0), "to standard output");
    checked(&page);
    let (code, said, _) = run(&["report", &state, "-o", "report.html"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("report.html: ") && said.ends_with("to be opened in a browser\n"), "{said}");
    assert_eq!(fs::read_to_string(place.path().join("report.html")).unwrap(), page, "the same page");
    let (_, said, _) = run(&["report", &state, "-o", "report.html", "--json"]);
    assert_eq!(said, format!("{{\"bytes\":{},\"out\":\"report.html\"}}\n", page.len()), "for machines");
    let (code, _, said) = run(&["report", ".", "-o", "-"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("help: name a folder that score or demo wrote"), "{said}");
    let (code, _, said) = run(&["report", "nowhere", "-o", "-"]);
    assert!(code == Some(2) && said.starts_with("error: nowhere: "), "{said}");
}
