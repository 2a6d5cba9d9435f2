//! Standard error: progress bars on a terminal, JSON lines with `--json`, silence with `-q`.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use super::Global;
use super::table::harmless;
use crate::models::Progress;
use crate::progress::Event;
use crate::{Error, Result};

/// Where diagnostics go.
#[derive(Debug)]
pub(super) struct Console {
    pub json: bool,
    quiet: bool,
    pub verbose: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Console {
    pub(super) fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet, verbose: global.verbose > 0, bar: RefCell::new(None) }
    }

    /// A listener for the library's events.
    pub(super) fn listener(&self) -> impl FnMut(Event) + '_ {
        |event| self.event(&event)
    }

    pub(super) fn event(&self, event: &Event) {
        if self.json {
            return self.json_event(event);
        }
        match event {
            Event::Expected { stage, seconds } => self.note(&format!("{stage} will take about {}", duration(*seconds))),
            Event::Began { stage, total, unit } => self.begin(stage, *total, unit),
            Event::Advanced { done, .. } => {
                if let Some(bar) = &*self.bar.borrow() {
                    bar.set_position(*done);
                }
            }
            Event::Ended { stage, seconds } => {
                self.end();
                if self.verbose {
                    self.note(&format!("{stage}: {seconds:.2} s"));
                }
            }
            Event::Warning { message } => self.warn(message),
        }
    }

    /// Something good to know: on standard error, unless quiet.
    pub(super) fn note(&self, message: &str) {
        if !self.quiet && !self.json {
            self.line(message);
        }
    }

    pub(super) fn warn(&self, message: &str) {
        if self.quiet {
            return;
        }
        if self.json {
            self.line(&json!({"event": "warning", "message": message}).to_string());
        } else {
            self.line(&format!("warning: {message}"));
        }
    }

    /// Lists and counts what `--skip-bad` left out.
    pub(super) fn left_out(&self, bad: &[Error], what: &str) {
        for error in bad {
            self.warn(&format!("left out: {error}"));
        }
        if !bad.is_empty() {
            self.warn(&format!("{} {what} were left out", bad.len()));
        }
    }

    /// An event of a command's own, only with `--json`.
    pub(super) fn json_event(&self, event: &impl Serialize) {
        if self.json && !self.quiet {
            self.line(&serde_json::to_string(event).unwrap_or_default());
        }
    }

    pub(super) fn error(&self, error: &Error) {
        self.end();
        if self.json {
            self.line(&json!({"error": error.to_string(), "help": error.remedy()}).to_string());
            return;
        }
        self.line(&format!("error: {error}"));
        if let Some(remedy) = error.remedy() {
            self.line(&format!("  help: {remedy}"));
        }
    }

    /// Runs `work`, showing how far a fetch is.
    pub(super) fn fetching<R>(&self, work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<R>) -> Result<R> {
        let mut began = false;
        let result = work(&mut |progress| match progress {
            Progress::Waiting => self.note("waiting for another process that changes this model"),
            Progress::Begin { from } => {
                self.note(&format!("fetching the model from {from}"));
                began = false;
            }
            Progress::Bytes { done, total } => {
                if !self.json && !std::mem::replace(&mut began, true) {
                    self.begin("fetching", total, "bytes");
                }
                if let Some(bar) = &*self.bar.borrow() {
                    bar.set_position(done);
                }
            }
            Progress::Failed { from, problem } => self.warn(&format!("{from}: {problem}")),
        });
        self.end();
        result
    }

    fn begin(&self, stage: &str, total: u64, unit: &str) {
        self.end();
        if self.quiet || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = format!("{{prefix:>10}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} {{eta}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_prefix(stage.to_owned());
        *self.bar.borrow_mut() = Some(bar);
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        let write = || {
            // Nobody is left to be told that standard error is gone.
            let _ = writeln!(std::io::stderr().lock(), "{}", harmless(text));
        };
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// A duration as people say it.
fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}
