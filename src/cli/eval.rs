//! `tauscore eval`: how good the engine is at what it is used for, measured by what is known.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::table::table;
use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, write_json, write_text};
use crate::Result;
use crate::config::{Config, Precision};
use crate::data::{Options, Round, Source, read_copies, read_pairs, read_quality, read_scores};
use crate::pipeline::eval::{CopyReport, Correlation, QualityReport, TextSimilarity, copies, quality, text_similarity};
use crate::stages::eval::Estimate;

/// Options of `tauscore eval`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("measure").args(["quality", "copies", "sts"]).required(true).multiple(true)))]
#[command(group(clap::ArgGroup::new("of_scores").args(["quality", "copies"]).multiple(true)))]
pub(super) struct EvalArgs {
    /// A folder that `tauscore score` wrote, for --quality and --copies
    #[arg(value_name = "DIR", requires = "of_scores")]
    folder: Option<PathBuf>,
    /// Miners: do their mean scores put them into the order of their known quality? Comma-separated values with a header row: a column
    /// `miner` and columns of numbers, the larger the better (`avg_length` is left out: length is the control, and is taken from the
    /// responses)
    #[arg(long, value_name = "CSV", requires = "folder")]
    quality: Option<PathBuf>,
    /// Responses: does the evidence tell known copies from the responses of miners without one? JSON Lines with {"prompt_id",
    /// "miner", "victim", "kind"} a line, the last two if they are known
    #[arg(long, value_name = "COPIES", requires = "folder")]
    copies: Option<PathBuf>,
    /// The round that was scored: with it ROUGE-L stands beside the correlations with quality
    #[arg(long, value_name = "ROUND", requires = "quality")]
    responses: Vec<PathBuf>,
    /// Its references
    #[arg(long, value_name = "FILE", requires = "responses")]
    references: Vec<PathBuf>,
    /// How many times the prompts are drawn anew for an interval
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    resamples: u32,
    /// Text similarity: do similarities put pairs of texts into the order of people's scores? JSON Lines with {"a", "b", "score"} a
    /// line, plain or gzip; `-` for standard input
    #[arg(long, value_name = "PAIRS")]
    sts: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What `--json` prints: a key for each thing measured.
#[derive(Default, Serialize)]
struct Report {
    #[serde(flatten)]
    embedder: Option<EmbedderReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<QualityReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copies: Option<CopyReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sts: Option<TextSimilarity>,
}

/// What embedded the texts.
#[derive(Serialize)]
struct EmbedderReport {
    device: String,
    model: String,
    precision: Precision,
}

pub(super) fn run(args: &EvalArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let mut report = Report::default();
    if let Some(folder) = &args.folder {
        let scores = read_scores(Source::path(folder.join("scores.jsonl")))?;
        let (known, resamples) = (args.quality.as_ref(), args.resamples as usize);
        let known = known.map(|path| read_quality(Source::path(path))).transpose()?;
        let copied = args.copies.as_ref().map(|path| read_copies(Source::path(path))).transpose()?;
        let texts = read_texts(args)?;
        report.quality = known.map(|known| quality(&scores, &known, texts.as_ref(), resamples)).transpose()?;
        report.copies = copied.map(|copied| copies(&scores, &copied, resamples)).transpose()?;
    }
    if let Some(path) = &args.sts {
        let pairs = read_pairs(Source::path(path))?;
        let mut config = Config::default();
        args.model.apply(&mut config);
        let device = args.device.open(console)?;
        let embedder = args.model.load(&mut config, &args.device, device, console)?;
        report.sts = Some(text_similarity(&embedder, &pairs, &mut console.listener())?);
        let device = embedder.device().name();
        report.embedder = Some(EmbedderReport { device, model: config.encoder.model, precision: embedder.precision() });
    }
    warn(&report, console);
    if console.json {
        write_json(out, &report)?;
        return Ok(Status::Good);
    }
    let Report { quality, copies, sts, .. } = &report;
    let quality = quality.as_ref().map(quality_text);
    let copies = copies.as_ref().map(copies_text);
    let sts = sts.as_ref().map(|sts| {
        let rate = sts.tokens as f64 / sts.seconds.max(1e-9);
        console.note(&format!("{} tokens in {:.2} s: {rate:.0} tokens/s", sts.tokens, sts.seconds));
        let spearman = sts.spearman.map_or("undefined, all similarities are the same".into(), |r| format!("{r:.4}"));
        format!("sts: {} pairs, Spearman's rank correlation {spearman}\n", sts.pairs)
    });
    let texts: Vec<String> = [quality, copies, sts].into_iter().flatten().collect();
    write_text(out, &texts.join("\n"))?;
    Ok(Status::Good)
}

/// The round that was scored, if it is given.
fn read_texts(args: &EvalArgs) -> Result<Option<Round>> {
    if args.responses.is_empty() {
        return Ok(None);
    }
    let sources = |paths: &[PathBuf]| paths.iter().map(Source::path).collect::<Vec<_>>();
    let (round, _) = Round::read(sources(&args.responses), sources(&args.references), Options::default())?;
    Ok(Some(round))
}

/// What was left out or cut.
fn warn(report: &Report, console: &Console) {
    if let Some(quality) = &report.quality {
        for (miners, what) in [
            (&quality.without_quality, "with scores, but without a known quality"),
            (&quality.without_scores, "with a known quality, but without scores"),
        ] {
            if !miners.is_empty() {
                console.warn(&format!("left out: miners {what} ({}): {}", miners.len(), miners.join(", ")));
            }
        }
    }
    if let Some(copies) = &report.copies
        && copies.without_scores > 0
    {
        console.warn(&format!("left out: known copies without a scored response ({})", copies.without_scores));
    }
    if let Some(sts) = &report.sts
        && sts.truncated > 0
    {
        console.warn(&format!("{} texts were longer than the limit and were cut", sts.truncated));
    }
}

fn value(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.3}"))
}

fn signed(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:+.3}"))
}

fn interval(estimate: &Estimate, show: fn(Option<f64>) -> String) -> String {
    format!("{} to {}", show(estimate.low), show(estimate.high))
}

fn quality_text(report: &QualityReport) -> String {
    let mut text = format!(
        "quality: {} miners, {} prompts, {} unanswered; intervals of 95 % over {} resamples of the prompts\n",
        report.miners.len(),
        report.prompts,
        report.unanswered,
        report.resamples
    );
    let mut rows = Vec::new();
    for column in &report.columns {
        let row = |signal: &str, correlation: &Correlation| {
            let given = correlation.given_length.as_ref();
            [
                column.quality.clone(),
                signal.to_owned(),
                signed(correlation.spearman.value),
                interval(&correlation.spearman, signed),
                given.map_or(String::new(), |given| signed(given.value)),
                given.map_or(String::new(), |given| interval(given, signed)),
            ]
        };
        rows.extend([
            row("score", &column.score),
            row("accuracy", &column.accuracy),
            row("novelty", &column.novelty),
            row("log length (control)", &column.log_length),
        ]);
        rows.extend(column.rouge_l.as_ref().map(|correlation| row("ROUGE-L (control)", correlation)));
    }
    let head = ["quality", "mean", "Spearman ", "interval ", "given log length ", "interval "];
    text.push_str(&table(head, &rows));

    if !report.subsets.is_empty() {
        let rows: Vec<[String; 3]> = report
            .subsets
            .iter()
            .map(|subset| [subset.prompts.to_string(), signed(subset.accuracy), signed(subset.score)])
            .collect();
        text.push_str("\nSpearman with the order over all prompts, the median of random ones\n");
        text.push_str(&table(["prompts ", "accuracy ", "score "], &rows));
    }
    let rows: Vec<[String; 5]> = report
        .miners
        .iter()
        .map(|miner| {
            [
                miner.miner.clone(),
                miner.answered.to_string(),
                format!("{:.4}", miner.accuracy.value.unwrap_or_default()),
                format!("{:.4}", miner.standard_error),
                interval(&miner.accuracy, value),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(["miner", "answered ", "accuracy ", "standard error ", "interval "], &rows));
    let neighbours = &report.neighbours;
    text.push_str(&format!(
        "{} of {} neighbours in this order are told apart\n",
        neighbours.told_apart, neighbours.pairs
    ));
    text
}

fn copies_text(report: &CopyReport) -> String {
    let all = &report.all.any_length;
    let mut text = format!(
        "copies: {} of {} miners, against {} responses of {} miners; intervals of 95 % over {} resamples of the prompts\n",
        all.copies, report.copiers, all.others, report.others, report.resamples
    );
    let kinds = report.by_kind.iter().map(|(kind, rates)| (kind.as_str(), rates));
    let rows: Vec<[String; 9]> = [("all", &report.all)]
        .into_iter()
        .chain(kinds)
        .flat_map(|(kind, rates)| [(kind, "any", &rates.any_length, rates), (kind, "200 and more", &rates.long, rates)])
        .map(|(kind, length, told, rates)| {
            [
                kind.to_owned(),
                length.to_owned(),
                told.copies.to_string(),
                value(told.auc.value),
                interval(&told.auc, value),
                value(told.true_positives.value),
                interval(&told.true_positives, value),
                value(told.above),
                if length == "any" { value(rates.victim_named) } else { String::new() },
            ]
        })
        .collect();
    let head = [
        "kind",
        "characters",
        "copies ",
        "AUC ",
        "interval ",
        "found at 1 % ",
        "interval ",
        "evidence above ",
        "victim named ",
    ];
    text.push_str(&table(head, &rows));
    text.push_str(&format!(
        "miners by mean evidence: AUC {}, {}\n",
        value(report.miner_auc.value),
        interval(&report.miner_auc, value)
    ));
    text.push_str(&format!(
        "called a copy by the engine: {} of the copies, {} of the others\n",
        value(Some(report.verdict.true_positives)),
        value(Some(report.verdict.false_positives))
    ));
    text
}
