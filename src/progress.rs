//! What the engine tells while it works. The library never prints: whoever calls it decides what becomes of an event.

use serde::Serialize;

/// Something worth telling.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// How long a stage will take, about, before it begins.
    Expected {
        /// The stage.
        stage: &'static str,
        /// In seconds.
        seconds: f64,
    },
    /// A stage begins; `total` of `unit` are to be done.
    Began {
        /// The stage.
        stage: &'static str,
        /// How much there is to do.
        total: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A stage went on.
    Advanced {
        /// The stage.
        stage: &'static str,
        /// How much is done in all.
        done: u64,
    },
    /// A stage is over.
    Ended {
        /// The stage.
        stage: &'static str,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// Something the user should know.
    Warning {
        /// What.
        message: String,
    },
}

/// Takes events. `&mut |_| {}` ignores them.
pub type Listener<'a> = &'a mut dyn FnMut(Event);
