//! Who copies whose weights, on subnets where it is known: honest validators who measure one truth, and those who hand in what others did.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use tauscore::device::Noise;
use tauscore::matrix::Csr;
use tauscore::pipeline::audit::{Audit, CopiedRow};
use tauscore::stages::yuma::{Epoch, Fields, State};

/// How honest validators differ from the truth.
#[derive(Clone, Copy, Debug)]
enum Error {
    /// By as many percent, each.
    Equal(u32),
    /// One by 2 %, the next by up to 40 %.
    Unequal,
    /// By as many percent of the mean, whoever it is; nobody falls below zero.
    Added(u32),
    /// Not at all.
    None,
}

/// How good the miners are.
#[derive(Clone, Copy, Debug)]
enum Truth {
    /// All about the same.
    Even,
    /// One has as much as the next ten.
    Steep,
    /// Ten have everything.
    Few,
}

/// A number with mean 0 and deviation 1, near enough to Gaussian.
fn gaussian(noise: &mut Noise) -> f64 {
    (0..12).map(|_| f64::from(noise.below(1 << 20)) / f64::from(1 << 20)).sum::<f64>() - 6.0
}

struct Subnet {
    noise: Noise,
    truth: Vec<f64>,
    error: Error,
    /// What each validator has measured.
    rows: Vec<Vec<f64>>,
    blocks: Vec<u64>,
    consensus: Vec<u16>,
}

impl Subnet {
    fn new(seed: u64, validators: usize, miners: usize, truth: Truth, error: Error) -> Self {
        let mut noise = Noise::new(seed);
        let truth = (0..miners)
            .map(|at| match truth {
                Truth::Even => 0.8 + 0.4 * f64::from(noise.below(1000)) / 1000.0,
                Truth::Steep => 1.0 / (1.0 + at as f64),
                Truth::Few => f64::from(u8::from(at < 10)),
            })
            .collect();
        let blocks = (0..validators).map(|_| 1_000 + u64::from(noise.below(300))).collect();
        let mut subnet = Self { noise, truth, error, rows: Vec::new(), blocks, consensus: Vec::new() };
        subnet.rows = (0..validators).map(|validator| subnet.measured(validator)).collect();
        subnet
    }

    fn measured(&mut self, validator: usize) -> Vec<f64> {
        let mean = self.truth.iter().sum::<f64>() / self.truth.len() as f64;
        let noise = &mut self.noise;
        let one = |truth: &f64| match self.error {
            Error::Equal(percent) => truth * (1.0 + f64::from(percent) / 100.0 * gaussian(noise)).max(0.0),
            Error::Unequal => {
                let deviation = if validator.is_multiple_of(2) { 0.02 } else { 0.1 + 0.05 * (validator % 7) as f64 };
                truth * (1.0 + deviation * gaussian(noise)).max(0.0)
            }
            Error::Added(percent) => (truth + mean * f64::from(percent) / 100.0 * gaussian(noise)).max(0.0),
            Error::None => *truth,
        };
        self.truth.iter().map(one).collect()
    }

    /// Adds a validator who set this row in this block.
    fn add(&mut self, row: Vec<f64>, block: u64) -> u16 {
        self.rows.push(row);
        self.blocks.push(block);
        self.rows.len() as u16 - 1
    }

    /// The same with each number changed by as many percent.
    fn jittered(&mut self, row: &[f64], percent: f64) -> Vec<f64> {
        row.iter().map(|weight| weight * (1.0 + percent / 100.0 * gaussian(&mut self.noise)).max(0.0)).collect()
    }

    /// Validators first, then miners.
    fn state(&self) -> State {
        let (validators, n) = (self.rows.len(), self.rows.len() + self.truth.len());
        let mut weights = Csr::empty(n);
        for (uid, row) in self.rows.iter().enumerate() {
            let largest = row.iter().copied().fold(0.0, f64::max);
            let value = |weight: &f64| (weight / largest * 65_535.0).round() as u16;
            let row: Vec<(u16, u16)> = (validators as u16..).zip(row.iter().map(value)).collect();
            assert!(weights.set_row(uid, &row), "a row");
        }
        let is_validator = |uid: usize| uid < validators;
        State::new(Fields {
            hotkeys: (0..n).map(|uid| format!("h{uid}")).collect(),
            coldkeys: (0..n).map(|uid| format!("c{}", uid / 2)).collect(),
            block: 1_500,
            last_mechanism_step_block: 1_140,
            rao_emission: 1_000_000_000,
            stake: (0..n).map(|uid| if is_validator(uid) { 1_000_000 + uid as u64 } else { 0 }).collect(),
            validator_permit: (0..n).map(is_validator).collect(),
            last_update: (0..n).map(|uid| self.blocks.get(uid).copied().unwrap_or(0)).collect(),
            block_at_registration: vec![0; n],
            weights,
            bonds: Csr::empty(n),
            stored_consensus: self.consensus.clone(),
            ..Fields::default()
        })
        .unwrap()
    }

    fn copies(&self) -> Vec<CopiedRow> {
        Audit::new(&self.state()).copied_rows
    }

    /// The consensus as the epoch of these rows leaves it, moved to where more validators will leave the miners.
    fn agree(&mut self, more: usize) {
        let mut consensus = Epoch::new(&self.state()).consensus;
        consensus.splice(0..0, vec![0; more]);
        self.consensus = consensus;
    }

    /// The stored consensus as a row.
    fn consensus_row(&self) -> Vec<f64> {
        self.consensus[self.consensus.len() - self.truth.len()..].iter().map(|share| f64::from(*share)).collect()
    }
}

const ERRORS: [Error; 7] = [
    Error::Equal(1),
    Error::Equal(5),
    Error::Equal(20),
    Error::Unequal,
    Error::Added(10),
    Error::Added(60),
    Error::None,
];

const TRUTHS: [Truth; 3] = [Truth::Even, Truth::Steep, Truth::Few];

#[test]
fn honest_validators_are_not_accused() {
    let mut accused = Vec::new();
    let mut subnets = 0;
    for validators in [4, 5, 8, 16, 64] {
        for miners in [16, 64, 256] {
            for truth in TRUTHS {
                for error in ERRORS {
                    for seed in 0..if validators == 64 { 1 } else { 4 } {
                        let mut subnet = Subnet::new(seed + 1, validators, miners, truth, error);
                        subnet.agree(0);
                        // They have measured anew since.
                        if seed & 1 == 0 {
                            subnet.rows = (0..validators).map(|validator| subnet.measured(validator)).collect();
                        }
                        subnets += 1;
                        let what = format!("{validators} x {miners} {truth:?} {error:?} {seed}");
                        accused.extend(subnet.copies().into_iter().map(|row| {
                            format!("{what}: {} of {:?}: {}", row.validator.uid, row.of.map(|of| of.uid), row.evidence)
                        }));
                    }
                }
            }
        }
    }
    assert!(accused.is_empty(), "{} of {subnets} subnets\n{}", accused.len(), accused.join("\n"));
}

/// Whom each of the accused is said to copy.
fn named(copies: &[CopiedRow]) -> Vec<(u16, Option<u16>)> {
    copies.iter().map(|row| (row.validator.uid, row.of.as_ref().map(|of| of.uid))).collect()
}

#[test]
fn copiers_are_found_and_nobody_else() {
    let (mut found, mut planted) = (0, 0);
    for validators in [5, 8, 16, 63] {
        for miners in [64, 256] {
            for error in [Error::Equal(5), Error::Equal(20), Error::Unequal, Error::Added(60)] {
                for truth in [Truth::Even, Truth::Steep] {
                    let what = format!("{validators} x {miners} {truth:?} {error:?}");
                    let mut subnet = Subnet::new(9, validators, miners, truth, error);
                    let source = subnet.rows[1].clone();
                    let exact = subnet.add(source.clone(), 1_400);
                    let copies = subnet.copies();
                    assert_eq!(named(&copies), [(exact, Some(1))], "exact: {what}");
                    let copy = &copies[0];
                    assert!(copy.equal == copy.different && copy.equal > 4 * copy.usual_equal, "{what}: {copy:?}");
                    assert_eq!((copy.agreement_ppm, copy.same_rank), (1_000_000, copy.ranked), "{what}: {copy:?}");
                    assert_eq!(copy.blocks_after, Some(1_400 - subnet.blocks[1] as i64), "{what}: who was first");

                    // Small changes hide the numbers, and of few miners or validators there is little to show it by.
                    let row = subnet.jittered(&source, 0.5);
                    let jittered = subnet.add(row, 1_410);
                    let mut copies = named(&subnet.copies());
                    planted += 1;
                    found += usize::from(copies.last() == Some(&(jittered, Some(1))));
                    copies.retain(|copy| *copy != (jittered, Some(1)));
                    assert_eq!(copies, [(exact, Some(1))], "nobody else: {what}");
                }
            }
        }
    }
    assert!(found + 6 >= planted, "only {found} of {planted} jittered copies");
}

#[test]
fn whoever_lags_behind_is_found() {
    for (validators, error) in [(8, Error::Equal(20)), (16, Error::Equal(5)), (64, Error::Added(60))] {
        // Averages over rounds, as validators keep them: a copier has those of the last round.
        let mut subnet = Subnet::new(5, validators, 256, Truth::Even, error);
        let mut last = Vec::new();
        for _ in 0..100 {
            last.clone_from(&subnet.rows[1]);
            for validator in 0..validators {
                let new = subnet.measured(validator);
                let averages = subnet.rows[validator].iter().zip(new);
                subnet.rows[validator] = averages.map(|(old, new)| 0.95 * old + 0.05 * new).collect();
            }
        }
        assert_eq!(named(&subnet.copies()), [], "{validators} {error:?}: averages are their own");
        let lagging = subnet.add(last, 1_400);
        let copies = subnet.copies();
        assert_eq!(named(&copies), [(lagging, Some(1))], "{validators} {error:?}: {copies:?}");
        assert!(copies[0].agreement_ppm < 1_000_000 && copies[0].sigmas >= Some(5), "{:?}", copies[0]);
    }
}

#[test]
fn copies_of_consensus_are_found() {
    for (validators, error) in
        [(8, Error::Equal(20)), (16, Error::Equal(5)), (64, Error::Unequal), (32, Error::Added(60))]
    {
        let mut subnet = Subnet::new(7, validators, 128, Truth::Even, error);
        subnet.agree(2);
        subnet.rows = (0..validators).map(|validator| subnet.measured(validator)).collect();
        assert_eq!(named(&subnet.copies()), [], "{validators} {error:?}: all have measured");
        let row = subnet.consensus_row();
        let exact = subnet.add(row.clone(), 1_400);
        let row = subnet.jittered(&row, 0.05);
        let jittered = subnet.add(row, 1_410);
        let copies = subnet.copies();
        assert_eq!(named(&copies), [(exact, None), (jittered, None)], "{validators} {error:?}: {copies:?}");
        assert!(copies[0].equal > copies[1].equal && copies[0].blocks_after.is_none(), "{copies:?}");
    }
}

#[test]
fn of_one_owner_and_of_two() {
    let mut subnet = Subnet::new(3, 9, 64, Truth::Even, Error::Equal(20));
    let (of_eight, of_one) = (subnet.rows[8].clone(), subnet.rows[1].clone());
    // Coldkeys are of two neighbours each.
    let same = subnet.add(of_eight, 1_400);
    let other = subnet.add(of_one, 1_400);
    let copies = subnet.copies();
    assert_eq!(named(&copies), [(same, Some(8)), (other, Some(1))], "both");
    assert_eq!([copies[0].same_coldkey, copies[1].same_coldkey], [Some(true), Some(false)], "marked apart");
    assert!(copies[0].evidence.ends_with("both are of one coldkey"), "{}", copies[0].evidence);
}

#[test]
fn figures_are_of_what_the_epoch_counts() {
    let mut subnet = Subnet::new(3, 4, 12, Truth::Few, Error::None);
    let audit = Audit::new(&subnet.state());
    let held: Vec<_> = audit.concentration.iter().map(|held| (held.name, held.of, held.holders)).collect();
    assert_eq!(held, [("stake", 16, 4), ("votes", 4, 4), ("incentive", 12, 10), ("dividends", 4, 4)], "of whom");
    let by_owner: Vec<_> =
        audit.concentration_by_coldkey.iter().map(|held| (held.name, held.of, held.holders)).collect();
    assert_eq!(by_owner, [("stake", 8, 2), ("votes", 2, 2), ("incentive", 6, 5), ("dividends", 2, 2)], "two uids each");
    assert!(audit.concentration[2].gini_ppm.abs_diff(166_666) <= 1, "ten of twelve have the same: {audit:?}");
    assert_eq!(audit.concentration[1].majority, Some(2), "stakes 1000000 to 1000003: two of four reach kappa");
    assert_eq!(audit.copied_rows, [], "all say the same, so nothing can be told");
    assert!(audit.validators.iter().all(|row| row.trust_ppm > 999_990 && row.above_ppm < 10), "{:?}", audit.validators);

    // One gives everything to somebody whom nobody else gives anything.
    subnet.rows[0] = (0..12).map(|at| f64::from(u8::from(at == 11))).collect();
    let audit = Audit::new(&subnet.state());
    let (alone, others): (Vec<_>, Vec<_>) = audit.validators.iter().partition(|row| row.validator.uid == 0);
    let alone = alone[0];
    assert_eq!((alone.weighs, alone.trust_ppm, alone.agreement_ppm), (1, 0, Some(0)), "alone");
    assert!(alone.above_ppm > 999_990 && others.iter().all(|row| row.agreement_ppm > Some(999_990)), "{audit:?}");
    let trust = Epoch::new(&subnet.state()).validator_trust;
    for row in &audit.validators {
        let of_epoch = (u64::from(trust[usize::from(row.validator.uid)]) * 1_000_000 / 65_535) as u32;
        assert!(row.trust_ppm.abs_diff(of_epoch) <= 16, "trust is the epoch's: {row:?}, {of_epoch}");
    }
}

#[test]
fn a_validator_of_a_real_subnet_hands_in_the_consensus() {
    // Subnet 15 at block 4769998: uid 94, with 2 % of the votes, gives all of his 27 miners exactly what the weighted median gives them.
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/yuma/real_sn15_b4769998_yuma2.json.gz");
    let audit = Audit::new(&State::read(&path).unwrap());
    assert_eq!((audit.compared, named(&audit.copied_rows)), (11, vec![(94, None)]), "{:?}", audit.copied_rows);
    let copy = &audit.copied_rows[0];
    assert_eq!((copy.equal, copy.different, copy.same_rank, copy.ranked), (22, 22, 27, 27), "{copy:?}");
}

#[cfg(feature = "cli")]
#[test]
fn it_is_told_in_tables_and_in_json() {
    let mut subnet = Subnet::new(3, 6, 32, Truth::Steep, Error::Equal(20));
    let row = subnet.rows[2].clone();
    subnet.add(row, 1_400);
    let mut fields = subnet.state().into_fields();
    fields.hotkeys[6] = "h6\u{1b}[2J\u{202e}".to_owned();
    let folder = tempfile::tempdir().unwrap();
    State::new(fields).unwrap().write(&folder.path().join("state.json")).unwrap();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tauscore"));
        let output = command.args(args).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&["audit", "state.json"]);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "nothing writes to the terminal");
    insta::assert_snapshot!("audit", text);
    let value: serde_json::Value = serde_json::from_str(&run(&["audit", "state.json", "--json"])).unwrap();
    let held = &value["concentration"][1];
    assert_eq!((&held["name"], &held["of"], &held["majority"]), (&"votes".into(), &7.into(), &4.into()), "{held}");
    assert_eq!(held["largest"][1], serde_json::json!([5, 714_286]), "pairs of k and millionths: {held}");
    let copy = &value["copied_rows"][0];
    assert_eq!((&copy["validator"]["uid"], &copy["of"]["hotkey"]), (&6.into(), &"h2".into()), "{copy}");
    assert_eq!(value["validators"].as_array().unwrap().len(), 7, "all with a permit");
    assert!(value["validators"][0]["uid"].is_u64() && value["validators"][0]["trust_ppm"].is_u64(), "{value}");
}
