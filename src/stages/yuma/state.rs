//! A subnet's state before an epoch, and its file (YUMA §2).

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::decode::{self, Flaw};
use super::metagraph;
use super::output::Epoch;
use crate::data::read_text;
use crate::matrix::Csr;
use crate::{Error, Result, whole};

/// The most uids a subnet can have.
const MAX_UIDS: usize = 65_535;

/// How long a neuron counts as active after its last update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityCutoff {
    /// Thousandths of a tempo (`activity_cutoff_factor_milli`): `max(1, floor(factor * tempo / 1000))` blocks.
    Factor(u32),
    /// Blocks (`activity_cutoff_blocks`), as chains had it before there was a factor.
    Blocks(u64),
}

/// Which consensus liquid alpha compares weights with (YUMA §8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsensusMode {
    /// This epoch's.
    Current,
    /// The previous epoch's as stored; this epoch's where none is stored.
    Previous,
    /// `Previous` where the bonds penalty is 65535, else `Current`.
    #[default]
    Auto,
}

/// How a subnet's epoch shares its pot (YUMA §14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochConsensus {
    /// Yuma Consensus over all validators' weights.
    #[default]
    Yuma,
    /// No consensus: one validator's weights pay the miners, stake pays the validators ([`null`](super::null)).
    Null,
}

/// The parameters of a subnet that the epoch reads, as raw storage integers. The default is that of a newly created subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hyperparameters {
    /// How the pot is shared. Default [`EpochConsensus::Yuma`].
    pub epoch_consensus: EpochConsensus,
    /// Blocks between epochs. Default 360.
    pub tempo: u16,
    /// How long a neuron counts as active after its last update. Default 13889 thousandths of a tempo (5000 blocks).
    pub activity_cutoff: ActivityCutoff,
    /// How many validators get a permit. Default 64.
    pub max_allowed_validators: u16,
    /// The majority that consensus needs, in 65535ths of active stake. Default 32767, slightly below one half.
    pub kappa: u16,
    /// How far bonds are built from clipped weights, in 65535ths. Default 65535.
    pub bonds_penalty: u16,
    /// What bonds keep from epoch to epoch, in millionths. Default 900000.
    pub bonds_moving_average: u64,
    /// Whether bonds follow Yuma3. Default true.
    pub yuma3: bool,
    /// Whether bonds move at a rate of their own per entry; Yuma3 only. Default false.
    pub liquid_alpha: bool,
    /// The lowest rate under liquid alpha, in 65535ths. Default 45875.
    pub alpha_low: u16,
    /// The highest rate under liquid alpha, in 65535ths. Default 58982.
    pub alpha_high: u16,
    /// The slope of liquid alpha's sigmoid, in hundredths. Default 1000.
    pub alpha_sigmoid_steepness: i16,
    /// Which consensus liquid alpha compares weights with. Default [`ConsensusMode::Auto`].
    pub liquid_alpha_consensus_mode: ConsensusMode,
    /// The stake below which a validator counts for nothing, in rao. Default 0.
    pub stake_threshold: u64,
    /// What a rao of TAO stake counts in alpha, in `1 / (2^64 - 1)`. Default 971718665099567868, about 5.27 %.
    pub tao_weight: u64,
    /// The subnet owner's uid, where registered. Default none.
    pub owner_uid: Option<u16>,
    /// How many miners a row must weigh, where known: for rows before they are submitted, not for the epoch. Default none.
    pub min_allowed_weights: Option<u16>,
    /// What one miner's weight may be of its row, in 65535ths, where known: likewise. Default none.
    pub max_weights_limit: Option<u16>,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            epoch_consensus: EpochConsensus::Yuma,
            tempo: 360,
            activity_cutoff: ActivityCutoff::Factor(13_889),
            max_allowed_validators: 64,
            kappa: 32_767,
            bonds_penalty: 65_535,
            bonds_moving_average: 900_000,
            yuma3: true,
            liquid_alpha: false,
            alpha_low: 45_875,
            alpha_high: 58_982,
            alpha_sigmoid_steepness: 1000,
            liquid_alpha_consensus_mode: ConsensusMode::Auto,
            stake_threshold: 0,
            tao_weight: 971_718_665_099_567_868,
            owner_uid: None,
            min_allowed_weights: None,
            max_weights_limit: None,
        }
    }
}

impl Hyperparameters {
    const KEYS: [&str; 19] = [
        "epoch_consensus",
        "tempo",
        "activity_cutoff_factor_milli",
        "activity_cutoff_blocks",
        "max_allowed_validators",
        "kappa",
        "bonds_penalty",
        "bonds_moving_average",
        "yuma3",
        "liquid_alpha",
        "alpha_low",
        "alpha_high",
        "alpha_sigmoid_steepness",
        "liquid_alpha_consensus_mode",
        "stake_threshold",
        "tao_weight",
        "owner_uid",
        "min_allowed_weights",
        "max_weights_limit",
    ];

    /// How many blocks a neuron counts as active after its last update, at least 1 where it comes from a factor.
    pub fn activity_cutoff_blocks(&self) -> u64 {
        match self.activity_cutoff {
            ActivityCutoff::Factor(milli) => (u64::from(milli) * u64::from(self.tempo) / 1000).max(1),
            ActivityCutoff::Blocks(blocks) => blocks,
        }
    }

    /// These parameters with another value of one, by the name and in the form that files have.
    ///
    /// # Errors
    /// [`Error::File`] naming the parameter.
    pub fn with(mut self, key: &str, value: &Value) -> Result<Self> {
        let object = Map::from_iter([(key.to_owned(), value.clone())]);
        self.overlay(&object).map_err(|flaw| flaw.in_file("hyper")).map(|()| self)
    }

    /// Takes over the keys that are present.
    fn overlay(&mut self, object: &Map<String, Value>) -> Result<(), Flaw> {
        decode::known_keys(object, &Self::KEYS)?;
        let mut blocks = None;
        for (key, value) in object {
            let field = key.as_str();
            match field {
                "epoch_consensus" => self.epoch_consensus = epoch_consensus(value, field)?,
                "tempo" => self.tempo = decode::integer(value, field)?,
                "activity_cutoff_factor_milli" => {
                    self.activity_cutoff = ActivityCutoff::Factor(decode::integer(value, field)?);
                }
                "activity_cutoff_blocks" => blocks = Some(decode::integer(value, field)?),
                "max_allowed_validators" => self.max_allowed_validators = decode::integer(value, field)?,
                "kappa" => self.kappa = decode::integer(value, field)?,
                "bonds_penalty" => self.bonds_penalty = decode::integer(value, field)?,
                "bonds_moving_average" => self.bonds_moving_average = decode::integer(value, field)?,
                "yuma3" => self.yuma3 = decode::boolean(value, field)?,
                "liquid_alpha" => self.liquid_alpha = decode::boolean(value, field)?,
                "alpha_low" => self.alpha_low = decode::integer(value, field)?,
                "alpha_high" => self.alpha_high = decode::integer(value, field)?,
                "alpha_sigmoid_steepness" => self.alpha_sigmoid_steepness = decode::signed(value, field)?,
                "liquid_alpha_consensus_mode" => self.liquid_alpha_consensus_mode = consensus_mode(value, field)?,
                "stake_threshold" => self.stake_threshold = decode::integer(value, field)?,
                "tao_weight" => self.tao_weight = decode::integer(value, field)?,
                "owner_uid" if value.is_null() => self.owner_uid = None,
                "owner_uid" => self.owner_uid = Some(decode::integer(value, field)?),
                "min_allowed_weights" if value.is_null() => self.min_allowed_weights = None,
                "min_allowed_weights" => self.min_allowed_weights = Some(decode::integer(value, field)?),
                "max_weights_limit" if value.is_null() => self.max_weights_limit = None,
                "max_weights_limit" => self.max_weights_limit = Some(decode::integer(value, field)?),
                _ => {}
            }
        }
        if let Some(blocks) = blocks {
            // Derived beside a factor, where the two must agree; alone it is how chains had it before there was a factor.
            let derived = self.activity_cutoff_blocks();
            if !object.contains_key("activity_cutoff_factor_milli") {
                self.activity_cutoff = ActivityCutoff::Blocks(blocks);
            } else if blocks != derived {
                return Err(Flaw::new(
                    "activity_cutoff_blocks",
                    format!("{blocks}, where activity_cutoff_factor_milli and tempo give {derived}"),
                    "leave out one of the two",
                ));
            }
        }
        Ok(())
    }
}

fn epoch_consensus(value: &Value, field: &str) -> Result<EpochConsensus, Flaw> {
    // The SDKs give the chain's number.
    match (value.as_str(), value.as_u64()) {
        (Some("yuma"), _) | (_, Some(0)) => Ok(EpochConsensus::Yuma),
        (Some("null"), _) | (_, Some(1)) => Ok(EpochConsensus::Null),
        _ => Err(Flaw::new(field, format!("{value} is not a consensus"), "write \"yuma\" or \"null\"")),
    }
}

fn consensus_mode(value: &Value, field: &str) -> Result<ConsensusMode, Flaw> {
    match value.as_str() {
        Some("current") => Ok(ConsensusMode::Current),
        Some("previous") => Ok(ConsensusMode::Previous),
        Some("auto") => Ok(ConsensusMode::Auto),
        _ => Err(Flaw::new(field, format!("{value} is not a mode"), "write \"current\", \"previous\" or \"auto\"")),
    }
}

impl Serialize for Hyperparameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.epoch_consensus != EpochConsensus::Yuma {
            map.serialize_entry("epoch_consensus", &self.epoch_consensus)?;
        }
        map.serialize_entry("tempo", &self.tempo)?;
        if let ActivityCutoff::Factor(milli) = self.activity_cutoff {
            map.serialize_entry("activity_cutoff_factor_milli", &milli)?;
        }
        map.serialize_entry("activity_cutoff_blocks", &self.activity_cutoff_blocks())?;
        map.serialize_entry("max_allowed_validators", &self.max_allowed_validators)?;
        map.serialize_entry("kappa", &self.kappa)?;
        map.serialize_entry("bonds_penalty", &self.bonds_penalty)?;
        map.serialize_entry("bonds_moving_average", &self.bonds_moving_average)?;
        map.serialize_entry("yuma3", &self.yuma3)?;
        map.serialize_entry("liquid_alpha", &self.liquid_alpha)?;
        map.serialize_entry("alpha_low", &self.alpha_low)?;
        map.serialize_entry("alpha_high", &self.alpha_high)?;
        map.serialize_entry("alpha_sigmoid_steepness", &self.alpha_sigmoid_steepness)?;
        map.serialize_entry("liquid_alpha_consensus_mode", &self.liquid_alpha_consensus_mode)?;
        map.serialize_entry("stake_threshold", &self.stake_threshold.to_string())?;
        map.serialize_entry("tao_weight", &self.tao_weight.to_string())?;
        map.serialize_entry("owner_uid", &self.owner_uid)?;
        for (key, limit) in
            [("min_allowed_weights", self.min_allowed_weights), ("max_weights_limit", self.max_weights_limit)]
        {
            if limit.is_some() {
                map.serialize_entry(key, &limit)?;
            }
        }
        map.end()
    }
}

/// The fields of a subnet's state, not yet checked against each other: [`State::new`] does that.
///
/// Vectors hold one value per uid unless said otherwise; the number of uids, n, is the length of `stake`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The subnet. Default 0.
    pub netuid: u16,
    /// The mechanism within the subnet. Default 0.
    pub mechid: u8,
    /// Hotkeys, all different; empty where not known.
    pub hotkeys: Vec<String>,
    /// Coldkeys; empty where not known.
    pub coldkeys: Vec<String>,
    /// The block of this epoch.
    pub block: u64,
    /// The block of the previous successful epoch; 0 if there was none.
    pub last_mechanism_step_block: u64,
    /// What this epoch distributes, in rao of alpha.
    pub rao_emission: u64,
    /// The parameters of the subnet.
    pub hyper: Hyperparameters,
    /// Alpha stake in rao, after child and parent keys.
    pub stake: Vec<u64>,
    /// TAO stake in rao, weighted by `tao_weight`; none counts as zeros.
    pub tao_stake: Option<Vec<u64>>,
    /// Who held a validator permit before the epoch.
    pub validator_permit: Vec<bool>,
    /// The block of each uid's last weights; may be shorter, missing ones count as 0.
    pub last_update: Vec<u64>,
    /// The block at which each uid was registered; may be shorter, missing ones count as 0.
    pub block_at_registration: Vec<u64>,
    /// Weights as submitted, in 65535ths of the row's largest. Columns are uids.
    pub weights: Csr<u16>,
    /// Bonds as the previous epoch left them. Columns may lie outside the subnet; such entries have no effect of their own.
    pub bonds: Csr<u16>,
    /// The previous epoch's consensus, of any length; empty if there was none.
    pub stored_consensus: Vec<u16>,
    /// Where weights are committed and revealed: each uid's earliest unexpired commit that is still unrevealed, by block.
    pub commit_block: Option<Vec<Option<u64>>>,
}

/// A subnet's state before an epoch: [`Fields`] that fit together, so that the epoch cannot fail.
///
/// As JSON it is the `in` object of the reference vectors, with `n`, `netuid`, `mechid`, `hotkeys` and `coldkeys` beside. Amounts
/// are written as decimal strings; both numbers and strings are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(Fields);

impl Deref for State {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.0
    }
}

const KEYS: [&str; 18] = [
    "n",
    "netuid",
    "mechid",
    "hotkeys",
    "coldkeys",
    "block",
    "last_mechanism_step_block",
    "rao_emission",
    "hyper",
    "stake",
    "tao_stake",
    "validator_permit",
    "last_update",
    "block_at_registration",
    "weights",
    "bonds",
    "stored_consensus",
    "commit_block",
];

/// Keys without which there is no state.
const REQUIRED: [&str; 7] =
    ["block", "rao_emission", "stake", "validator_permit", "last_update", "block_at_registration", "weights"];

impl State {
    /// Checks that the fields fit together.
    pub fn new(fields: Fields) -> Result<Self> {
        Self::checked(fields).map_err(|flaw| flaw.in_file("state"))
    }

    fn checked(fields: Fields) -> Result<Self, Flaw> {
        let n = fields.stake.len();
        if n > MAX_UIDS {
            return Err(Flaw::new("n", format!("{n} is above {MAX_UIDS}"), "a uid has 16 bits: leave out neurons"));
        }
        let exactly = |field: &str, length: usize| {
            let remedy = "give one value per uid, in the order of uids";
            if length == n { Ok(()) } else { Err(Flaw::new(field, format!("{length} values for n = {n}"), remedy)) }
        };
        let at_most = |field: &str, length: usize| {
            let remedy = "give one value per uid, in the order of uids";
            if length <= n { Ok(()) } else { Err(Flaw::new(field, format!("{length} values for n = {n}"), remedy)) }
        };
        if !fields.hotkeys.is_empty() {
            exactly("hotkeys", fields.hotkeys.len())?;
        }
        if !fields.coldkeys.is_empty() {
            exactly("coldkeys", fields.coldkeys.len())?;
        }
        if let Some(tao_stake) = &fields.tao_stake {
            exactly("tao_stake", tao_stake.len())?;
        }
        exactly("validator_permit", fields.validator_permit.len())?;
        at_most("last_update", fields.last_update.len())?;
        at_most("block_at_registration", fields.block_at_registration.len())?;
        if let Some(commit_block) = &fields.commit_block {
            exactly("commit_block", commit_block.len())?;
        }
        exactly("weights", fields.weights.rows())?;
        exactly("bonds", fields.bonds.rows())?;
        if let Some((row, column, _)) = fields.weights.entries().find(|entry| usize::from(entry.1) >= n) {
            return Err(on_nobody(row, column, n));
        }
        if fields.weights.len().max(fields.bonds.len()) > Csr::<u16>::MAX_ENTRIES {
            return Err(Flaw::new("weights", "too many entries", "leave out neurons"));
        }
        if let Some(owner) = fields.hyper.owner_uid.filter(|&owner| usize::from(owner) >= n) {
            return Err(Flaw::new(
                "hyper.owner_uid",
                format!("uid {owner} is not below n = {n}"),
                "write null for none",
            ));
        }
        let mut seen = HashMap::with_capacity(fields.hotkeys.len());
        for (uid, hotkey) in fields.hotkeys.iter().enumerate() {
            if let Some(earlier) = seen.insert(hotkey.as_str(), uid) {
                return Err(Flaw::new(
                    format!("hotkeys[{uid}]"),
                    format!("{hotkey:?} is already that of uid {earlier}"),
                    "a hotkey has one uid in a subnet: remove one of the two",
                ));
            }
        }
        Ok(Self(fields))
    }

    /// The fields, to be changed and checked again.
    pub fn into_fields(self) -> Fields {
        self.0
    }

    /// The number of uids.
    pub fn n(&self) -> usize {
        self.0.stake.len()
    }

    /// Reads a file, plain or packed with gzip; `-` is standard input. Recognised by their shapes are states as [`State::write`] leaves them,
    /// reference vectors (their first epoch's inputs), btcli 11's JSON of a metagraph, and what `datasets/scripts/dump_metagraph_11.py` and
    /// `dump_metagraph_9_10.py` make of the SDKs' metagraphs. There, stake is the total, which has the TAO part weighted in it; without
    /// better knowledge the next epoch is taken to share what the last one did; parameters that a tool leaves out are the defaults.
    ///
    /// # Errors
    /// [`Error::File`] naming the field.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let file = path.display().to_string();
        let read = || -> Result<Self, Flaw> {
            let value = parse(&text)?;
            match metagraph::vectors(&value)? {
                Some((inputs, n)) => Self::from_value(inputs, n),
                None => Self::from_value(&value, None),
            }
        };
        read().map_err(|flaw| flaw.in_file(&file))
    }

    /// Writes a file that [`Self::read`] reads, packed where the name ends in `.gz`. The same state always gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |source| Error::io(path, source);
        let mut bytes = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        if path.extension().is_some_and(|extension| extension == "gz") {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, &bytes).map_err(failed)?;
            bytes = encoder.finish().map_err(failed)?;
        }
        whole::write(path, &bytes)
    }

    /// Reads a state from JSON; `n` where it stands outside the object.
    pub(crate) fn from_value(value: &Value, n: Option<usize>) -> Result<Self, Flaw> {
        let value = metagraph::state(value)?;
        let object = decode::object(&value, "state")?;
        if let Some(missing) = REQUIRED.iter().find(|&&key| !object.contains_key(key)) {
            return Err(Flaw::new(*missing, "missing", "every state needs this key"));
        }
        let n = match (object.get("n"), n) {
            (Some(inner), _) => decode::integer::<u64>(inner, "n")? as usize,
            (None, Some(n)) => n,
            (None, None) => object.get("stake").map_or(Ok(0), |stake| decode::array(stake, "stake").map(<[_]>::len))?,
        };
        // Before anything is laid out in rows: the number may be any that the file names.
        if n > MAX_UIDS {
            return Err(Flaw::new("n", format!("{n} is above {MAX_UIDS}"), "a uid has 16 bits: leave out neurons"));
        }
        let blank = Fields { bonds: Csr::empty(n), ..Fields::default() };
        blank.overlaid(object, n)
    }

    /// The state after taking over the keys that are present in `value`.
    pub fn overlay(&self, value: &Value) -> Result<Self> {
        self.overlaid(value).map_err(|flaw| flaw.in_file("state"))
    }

    pub(crate) fn overlaid(&self, value: &Value) -> Result<Self, Flaw> {
        self.0.clone().overlaid(decode::object(value, "state")?, self.n())
    }

    /// The state with another row of weights, uids and weights in submission order, in a validator's place.
    ///
    /// # Errors
    /// [`Error::File`] if the validator or one who is weighed is not in the subnet.
    pub fn with_row(&self, validator: u16, row: &[(u16, u16)]) -> Result<Self> {
        let mut fields = self.clone().into_fields();
        fields.place(validator, row)?;
        Self::new(fields)
    }

    /// The state once a validator has submitted a row of weights ([`Fields::submit`]).
    ///
    /// # Errors
    /// As [`Self::with_row`].
    pub fn with_submitted(&self, validator: u16, row: &[(u16, u16)]) -> Result<Self> {
        let mut fields = self.clone().into_fields();
        fields.submit(validator, row)?;
        Self::new(fields)
    }

    /// Carries an epoch's permits, bonds and consensus over as the next epoch's inputs. Blocks are the caller's to move.
    pub fn advance(&mut self, epoch: &Epoch) -> Result<()> {
        let (n, length) = (self.n(), epoch.new_validator_permit.len());
        if length != n || epoch.bonds.rows() != n {
            return Err(Error::Usage {
                argument: "epoch".into(),
                problem: format!("is of {length} uids, where the state has {n}"),
                remedy: "carry an epoch over into the state that it was computed from".into(),
            });
        }
        self.0.validator_permit.clone_from(&epoch.new_validator_permit);
        self.0.bonds.clone_from(&epoch.bonds);
        self.0.stored_consensus.clone_from(&epoch.consensus);
        Ok(())
    }
}

impl Fields {
    /// Puts a row of weights, uids and weights in submission order, in a validator's place.
    fn place(&mut self, validator: u16, row: &[(u16, u16)]) -> Result<()> {
        if self.weights.set_row(validator.into(), row) {
            return Ok(());
        }
        let problem = format!("uid {validator} is not below n = {}", self.stake.len());
        Err(Flaw::new("weights", problem, "name a neuron of the subnet").in_file("state"))
    }

    /// Submits a validator's row of weights in the state's block, and reveals it where that is done: nothing older of this
    /// validator's is waiting to be. Whether those who are weighed are in the subnet is for [`State::new`] to check.
    ///
    /// # Errors
    /// [`Error::File`] if the validator is not in the subnet.
    pub fn submit(&mut self, validator: u16, row: &[(u16, u16)]) -> Result<()> {
        self.place(validator, row)?;
        let uid = usize::from(validator);
        self.last_update.resize(self.stake.len(), 0);
        if let Some(last_update) = self.last_update.get_mut(uid) {
            *last_update = self.block;
        }
        if let Some(commit) = self.commit_block.as_mut().and_then(|blocks| blocks.get_mut(uid)) {
            *commit = None;
        }
        Ok(())
    }

    /// Takes over the keys that are present, and checks the whole.
    fn overlaid(mut self, object: &Map<String, Value>, n: usize) -> Result<State, Flaw> {
        decode::known_keys(object, &KEYS)?;
        for (key, value) in object {
            let field = key.as_str();
            match field {
                "n" => {
                    let given: u64 = decode::integer(value, field)?;
                    if given != n as u64 {
                        return Err(Flaw::new(field, format!("{given}, where the state has {n} uids"), "leave it out"));
                    }
                }
                "netuid" => self.netuid = decode::integer(value, field)?,
                "mechid" => self.mechid = decode::integer(value, field)?,
                "hotkeys" => self.hotkeys = decode::strings(value, field)?,
                "coldkeys" => self.coldkeys = decode::strings(value, field)?,
                "block" => self.block = decode::integer(value, field)?,
                "last_mechanism_step_block" => self.last_mechanism_step_block = decode::integer(value, field)?,
                "rao_emission" => self.rao_emission = decode::integer(value, field)?,
                "hyper" => {
                    self.hyper.overlay(decode::object(value, field)?).map_err(|flaw| flaw.within(field))?;
                }
                "stake" => self.stake = decode::integers(value, field)?,
                "tao_stake" if value.is_null() => self.tao_stake = None,
                "tao_stake" => self.tao_stake = Some(decode::integers(value, field)?),
                "validator_permit" => self.validator_permit = decode::booleans(value, field)?,
                "last_update" => self.last_update = decode::integers(value, field)?,
                "block_at_registration" => self.block_at_registration = decode::integers(value, field)?,
                "weights" => self.weights = rows(n, &decode::triples(value, field, "w", n, n)?, field)?,
                "bonds" => self.bonds = rows(n, &decode::triples(value, field, "b", n, usize::MAX)?, field)?,
                "stored_consensus" => self.stored_consensus = decode::integers(value, field)?,
                "commit_block" if value.is_null() => self.commit_block = None,
                "commit_block" => self.commit_block = Some(decode::optional_integers(value, field)?),
                _ => {}
            }
        }
        if self.stake.len() != n {
            let problem = format!("{} values for n = {n}", self.stake.len());
            return Err(Flaw::new("stake", problem, "give one value per uid, in the order of uids"));
        }
        State::checked(self)
    }
}

/// A weight on a uid that nobody has.
pub(super) fn on_nobody(row: usize, column: u16, n: usize) -> Flaw {
    Flaw::new("weights", format!("uid {row} weighs uid {column}, which is not below n = {n}"), "remove the entry")
}

fn rows(n: usize, triples: &[(u16, u16, u16)], field: &str) -> Result<Csr<u16>, Flaw> {
    Csr::from_triples(n, triples).ok_or_else(|| Flaw::new(field, "too many entries", "leave out neurons"))
}

/// Parses a file of one JSON value.
pub(crate) fn parse(text: &str) -> Result<Value, Flaw> {
    serde_json::from_str(text).map_err(|error| Flaw::new("(file)", error.to_string(), "write one JSON object"))
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(&value, None).map_err(|flaw| D::Error::custom(format!("{}: {}", flaw.field, flaw.problem)))
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let decimal = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("n", &self.n())?;
        map.serialize_entry("netuid", &self.netuid)?;
        map.serialize_entry("mechid", &self.mechid)?;
        map.serialize_entry("hotkeys", &self.hotkeys)?;
        map.serialize_entry("coldkeys", &self.coldkeys)?;
        map.serialize_entry("block", &self.block)?;
        map.serialize_entry("last_mechanism_step_block", &self.last_mechanism_step_block)?;
        map.serialize_entry("rao_emission", &self.rao_emission.to_string())?;
        map.serialize_entry("hyper", &self.hyper)?;
        map.serialize_entry("stake", &decimal(&self.stake))?;
        if let Some(tao_stake) = &self.tao_stake {
            map.serialize_entry("tao_stake", &decimal(tao_stake))?;
        }
        map.serialize_entry("validator_permit", &bits(&self.validator_permit))?;
        map.serialize_entry("last_update", &self.last_update)?;
        map.serialize_entry("block_at_registration", &self.block_at_registration)?;
        map.serialize_entry("weights", &Triples { matrix: &self.weights, values_key: "w" })?;
        map.serialize_entry("bonds", &Triples { matrix: &self.bonds, values_key: "b" })?;
        map.serialize_entry("stored_consensus", &self.stored_consensus)?;
        if let Some(commit_block) = &self.commit_block {
            map.serialize_entry("commit_block", commit_block)?;
        }
        map.end()
    }
}

/// Booleans as the files write them: 0 and 1.
pub(super) fn bits(values: &[bool]) -> Vec<u8> {
    values.iter().copied().map(u8::from).collect()
}

/// A sparse matrix as the files write it: parallel arrays `i`, `j` and the values under a key of their own.
pub(super) struct Triples<'a> {
    pub(super) matrix: &'a Csr<u16>,
    pub(super) values_key: &'static str,
}

impl Serialize for Triples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("i", &self.matrix.entries().map(|entry| entry.0).collect::<Vec<_>>())?;
        map.serialize_entry("j", self.matrix.columns())?;
        map.serialize_entry(self.values_key, self.matrix.values())?;
        map.end()
    }
}
