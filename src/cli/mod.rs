//! The `tauscore` command: data on stdout, diagnostics on stderr. Exit 0 good, 1 finding, 2 could not run.

mod audit;
mod bench;
mod config;
mod console;
mod criteria;
mod demo;
mod devices;
mod doctor;
mod embed;
mod emission;
mod epoch;
mod eval;
mod explain;
mod forecast;
mod loss;
mod models;
mod prove;
mod report;
mod score;
mod sign;
mod state;
mod table;
mod verify;
mod weights;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, LossKind, Precision};
use crate::device::{Choice, Device, Instructions};
use crate::models::{Kind, Store};
use crate::pipeline::{Embedder, Judge};
use crate::progress::Event;
use crate::{Error, Result};
use console::Console;

/// Scores miner responses on any GPU or the CPU: novelty, accuracy, weights and the Yuma epoch.
#[derive(Debug, Parser)]
#[command(name = "tauscore", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
struct Global {
    /// Machine-readable: results as JSON on stdout, events as JSON lines on stderr
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Threads for the CPU path [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Score a round: novelty, accuracy, scores, weights and, if asked, the epoch
    Score(score::ScoreArgs),
    /// Embed texts: one JSON line a text
    Embed(embed::EmbedArgs),
    /// Judge responses by any kind of loss: one JSON line a response
    Loss(loss::LossArgs),
    /// Score real responses as three validators and run the subnet's epoch
    Demo(demo::DemoArgs),
    /// Compute Yuma epochs of subnet states, or check recorded ones
    Epoch(epoch::EpochArgs),
    /// Tell what a row of weights would bring its validator, or thousands of what-ifs
    Forecast(forecast::ForecastArgs),
    /// Preview the weights that an SDK would send, with every trap, and write them for tools
    Weights(weights::WeightsArgs),
    /// Tell what a block emits, when that halves, and how a subnet's part is split
    Emission(emission::EmissionArgs),
    /// Bring a subnet's metagraph in, show one, or look after what is kept between rounds
    State(state::StateArgs),
    /// Tell a miner what his weight was made of, and what would have changed it most
    Explain(explain::ExplainArgs),
    /// Tell how decentralised a subnet is: who holds what, who copies whose weights, who is trusted
    Audit(audit::AuditArgs),
    /// Measure the engine beside known quality, known copies or people's scores
    Eval(eval::EvalArgs),
    /// Check a ledger, or a miner's proof: what it says, and whether weights and epochs follow
    Verify(verify::VerifyArgs),
    /// Write a proof that a miner's responses, scores and weight are in a ledger
    Prove(prove::ProveArgs),
    /// Show a round, a subnet or a ledger as one HTML file
    Report(report::ReportArgs),
    /// List the adapters of this machine
    Devices,
    /// Prove this machine's adapters: every kernel against its CPU twin
    Doctor(doctor::DoctorArgs),
    /// Time every kernel and stage
    Bench(bench::BenchArgs),
    /// Fetch, list, verify, convert or remove models
    Models(models::ModelsArgs),
    /// Print the effective criteria
    Config(config::ConfigArgs),
    /// Compare criteria, approve others, count who does
    Criteria(criteria::CriteriaArgs),
}

/// Which device to run on.
#[derive(Clone, Debug, Args)]
struct DeviceArgs {
    /// auto (hardware GPU, else CPU), cpu, gpu, or part of an adapter's name, driver, PCI bus id or vendor:device
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Choice,
    /// The most memory that the device's buffers may take, weights included, as 512MiB or 8GB [default: what there is]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<ByteSize>,
}

/// Which model to use.
#[derive(Clone, Debug, Args)]
struct ModelArgs {
    /// A known model, or a folder with config.json, tokenizer.json and model.safetensors
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// exact (integers, the same on every machine) or f32; overrides the criteria
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Cut texts at this many tokens [default: the model's own limit]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Never fetch a model: refuse if it is missing
    #[arg(long)]
    offline: bool,
}

/// What accuracy is measured by.
#[derive(Clone, Debug, Args)]
struct LossArgs {
    /// What accuracy is measured by; overrides the criteria
    #[arg(long, value_name = "KIND", value_parser = loss_kinds())]
    loss: Option<LossKind>,
}

/// The kinds of loss by their names, for help and completion.
fn loss_kinds() -> impl TypedValueParser<Value = LossKind> {
    PossibleValuesParser::new(LossKind::ALL.map(|(name, _)| name)).try_map(|name| name.parse::<LossKind>())
}

impl LossArgs {
    fn apply(&self, config: &mut Config) {
        if let Some(kind) = self.loss {
            config.loss.kind = kind;
        }
    }
}

/// What a command came to.
type Outcome = Result<Status>;

/// The exit status of a command that could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Good,
    Finding,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let console = Console::new(&cli.global);
    if let Some(threads) = cli.global.threads {
        // Fails only if the pool exists already, and nothing has run yet.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
    }
    let out = &mut std::io::BufWriter::new(std::io::stdout().lock());
    let outcome = run(&cli, &console, out).and_then(|status| out.flush().map(|()| status).map_err(output));
    match outcome {
        Ok(Status::Good) => ExitCode::SUCCESS,
        Ok(Status::Finding) => ExitCode::from(1),
        // Whoever read our output has seen enough.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = out.flush();
            console.error(&error);
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli, console: &Console, out: &mut dyn Write) -> Outcome {
    Instructions::chosen()?;
    match &cli.command {
        Command::Score(args) => score::run(args, console, out),
        Command::Embed(args) => embed::run(args, console, out),
        Command::Loss(args) => loss::run(args, console, out),
        Command::Demo(args) => demo::run(args, console, out),
        Command::Epoch(args) => {
            epoch::run(args, console.json, out).map(|status| if status == 0 { Status::Good } else { Status::Finding })
        }
        Command::Emission(args) => emission::run(args, console, out),
        Command::Forecast(args) => forecast::run(args, console, out),
        Command::Weights(args) => weights::run(args, console, out),
        Command::State(args) => state::run(args, console, out),
        Command::Explain(args) => explain::run(args, console, out),
        Command::Audit(args) => audit::run(args, console, out),
        Command::Eval(args) => eval::run(args, console, out),
        Command::Verify(args) => verify::run(args, console, out),
        Command::Prove(args) => prove::run(args, console, out),
        Command::Report(args) => report::run(args, console, out),
        Command::Devices => devices::run(console, out),
        Command::Doctor(args) => doctor::run(args, console, out),
        Command::Bench(args) => bench::run(args, console, out),
        Command::Models(args) => models::run(args, console, out),
        Command::Config(args) => config::run(args, console, out),
        Command::Criteria(args) => criteria::run(args, console, out),
    }
}

impl DeviceArgs {
    /// Opens the device and says which it is.
    fn open(&self, console: &Console) -> Result<Device> {
        let device = Device::open(&self.device)?.with_budget(self.memory_budget.map(|size| size.as_u64()));
        console.note(&format!("device: {}", device.name()));
        if self.device == Choice::Gpu && device.is_software() {
            console.warn("this is a software adapter: --device cpu is several times faster");
        }
        Ok(device)
    }

    /// Loads onto the device that was opened what tests it first. Where it fails that test and was chosen by `auto`, the CPU takes its
    /// place, with a warning.
    fn load<T>(&self, device: Device, console: &Console, load: impl Fn(&Device) -> Result<T>) -> Result<T> {
        match load(&device) {
            Err(error @ Error::SelfTest { .. }) if self.device == Choice::Auto && !device.is_cpu() => {
                let device = Device::cpu().with_budget(device.budget());
                console.warn(&format!("{error}; going on with the {}", device.name()));
                load(&device)
            }
            loaded => loaded,
        }
    }
}

impl ModelArgs {
    /// Overrides the criteria with what the command line says.
    fn apply(&self, config: &mut Config) {
        if let Some(model) = &self.model {
            config.encoder.model.clone_from(model);
        }
        if let Some(precision) = self.precision
            && precision != config.encoder.precision
        {
            config.encoder.precision = precision;
            // It is the other precision's.
            config.encoder.sha256 = None;
        }
        if self.max_tokens.is_some() {
            config.encoder.max_tokens = self.max_tokens;
        }
    }

    /// Finds, fetches if need be, and loads the model that the criteria name, onto what `device` opened or, after a failed self-test, its
    /// substitute. From then on the criteria say which weights they mean.
    fn load(&self, config: &mut Config, device: &DeviceArgs, opened: Device, console: &Console) -> Result<Embedder> {
        let encoder = &mut config.encoder;
        let (name, offline) = (&encoder.model, self.offline);
        let folder = console.fetching(|progress| Store::from_env()?.resolve(name, Kind::Encoder, offline, progress))?;
        let embedder = device.load(opened, console, |device| {
            Embedder::load(device, &folder, encoder, &mut |event| {
                if let Event::Began { .. } = event {
                    console.note("converting the model to integers, which is kept beside it");
                }
                console.event(&event);
            })
        })?;
        encoder.sha256 = Some(embedder.digest().to_owned());
        Ok(embedder)
    }
}

/// Loads the language model that the criteria's kind of loss needs, if it needs one. From then on they say which weights they mean.
fn load_judge(config: &mut Config, device: &Device, offline: bool, console: &Console) -> Result<Option<Judge>> {
    if config.loss.reading().is_none() {
        return Ok(None);
    }
    let judge = judge(config.loss.model(), config.loss.pin(), device, offline, console)?;
    config.loss.sha256 = Some(judge.digest().to_owned());
    Ok(Some(judge))
}

/// Finds, fetches if need be, and loads a language model.
fn judge(model: &str, pin: Option<&str>, device: &Device, offline: bool, console: &Console) -> Result<Judge> {
    let path =
        console.fetching(|progress| Store::from_env()?.resolve(model, Kind::LanguageModel, offline, progress))?;
    Judge::load(device, &path, pin)
}

/// The criteria in a file, or the defaults.
fn criteria(file: Option<&Path>) -> Result<Config> {
    file.map_or_else(|| Ok(Config::default()), Config::read)
}

/// An error of standard output.
fn output(error: std::io::Error) -> Error {
    Error::io("standard output", error)
}

/// Writes `value` as one line of JSON.
fn write_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(|error| output(error.into()))?;
    out.write_all(b"\n").map_err(output)
}

/// Writes text.
fn write_text(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::adapters;
    use crate::stages::encode::self_test::{known_answers, run_with};

    fn arguments(device: &str) -> (DeviceArgs, Console) {
        let global = Global { json: false, quiet: true, verbose: 0, threads: None };
        (
            DeviceArgs { device: device.parse().expect("any text is a choice"), memory_budget: None },
            Console::new(&global),
        )
    }

    /// Loads nothing, and holds adapters to a wrong answer. Gives whether it is the CPU.
    fn load(device: &Device) -> Result<bool> {
        let mut answers = known_answers()?;
        if !device.is_cpu() {
            answers[0].written = "0000000000000000".into();
        }
        run_with(device, &answers[..1]).map(|()| device.is_cpu())
    }

    #[test]
    fn auto_leaves_a_device_that_fails_its_test_and_a_named_one_ends_the_command() {
        for device in adapters().into_iter().filter_map(|adapter| adapter.open().ok()) {
            let (auto, console) = arguments("auto");
            let cpu = auto.load(device.clone(), &console, load).expect("the CPU takes its place");
            assert!(cpu, "{} was kept", device.name());
            for choice in ["gpu", "llvmpipe"] {
                let (named, console) = arguments(choice);
                let error = named.load(device.clone(), &console, load).expect_err("it is wrong");
                let text = error.to_string();
                assert!(text.contains(&device.name()) && text.contains("nn/exact/embed"), "{choice}: {text}");
                assert!(error.remedy().is_some_and(|remedy| remedy.contains("--device cpu")), "{choice}: {error:?}");
            }
        }
        let (auto, console) = arguments("auto");
        let cpu = auto.load(Device::cpu(), &console, load).expect("nothing is wrong with the CPU");
        assert!(cpu, "the CPU stays");
        let broken = |_: &Device| -> Result<()> { Err(output(std::io::Error::other("full"))) };
        let error = auto.load(Device::cpu(), &console, broken).expect_err("an error of another kind");
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
