//! Signatures: those of the chain's own tools verify here, no changed bit does, and keys and signers are refused by name.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::package;
use proptest::prelude::*;
use serde_json::{Value, json};
use tauscore::fixed::I32F32;
use tauscore::ledger::{
    Approval, Digest, Proposal, PublicKey, Scheme, Signature, Signer, Voter, permissions_warning, recount, tally,
    voters,
};
use tauscore::matrix::Csr;
use tauscore::stages::yuma::consensus::Votes;
use tauscore::stages::yuma::{Fields, Hyperparameters, State};

/// What `datasets/scripts/make_signatures.py` recorded.
fn recorded() -> Vec<Value> {
    let files = ["bittensor_wallet_4.json", "bittensor_11.json"];
    let read = |name| fs::read(package().join("datasets/signatures").join(name)).unwrap();
    files.map(read).iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn public(key: &Value) -> PublicKey {
    PublicKey::from_address(text(&key["address"]), text(&key["scheme"]).parse().unwrap()).unwrap()
}

/// Keys, messages and signatures, with whether the message was wrapped.
fn signed() -> Vec<(PublicKey, Vec<u8>, Signature, bool)> {
    let of = |file: &Value| -> Vec<_> {
        let row = |row: &Value| {
            let key = public(&file["keys"][row["key"].as_u64().unwrap() as usize]);
            let message = const_hex::decode(text(&file["messages"][text(&row["message"])])).unwrap();
            (key, message, text(&row["signature"]).parse().unwrap(), row["wrapped"].as_bool().unwrap())
        };
        file["signatures"].as_array().unwrap().iter().map(row).collect()
    };
    recorded().iter().flat_map(of).collect()
}

/// A key file of a recorded key, by the scheme and what it was made from, in a folder of its own.
fn key_file(scheme: Scheme, kind: &str) -> (tempfile::TempDir, PathBuf) {
    let files = recorded();
    let mut keys = files.iter().flat_map(|file| file["keys"].as_array().unwrap());
    let name = format!("TEST KEY, {} from a {kind}", scheme.name());
    let key = keys.find(|key| key["name"] == name.as_str()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hotkey");
    fs::write(&path, text(&key["key_file"])).unwrap();
    (folder, path)
}

fn signer(scheme: Scheme, kind: &str) -> Signer {
    let (_folder, path) = key_file(scheme, kind);
    Signer::from_key_file(&path, None).unwrap()
}

#[test]
fn what_the_sdks_signed_verifies() {
    let signed = signed();
    assert_eq!(signed.len(), 108, "of both files");
    for (key, message, signature, wrapped) in &signed {
        assert!(key.verify(message, signature), "{key} {:?} wrapped: {wrapped}", String::from_utf8_lossy(message));
        let other = if key.scheme == Scheme::Sr25519 { Scheme::Ed25519 } else { Scheme::Sr25519 };
        assert!(!PublicKey { scheme: other, ..*key }.verify(message, signature), "{key} as {}", other.name());
    }
    for file in recorded() {
        for key in file["keys"].as_array().unwrap() {
            assert_eq!(const_hex::encode(public(key).key), text(&key["public_key"]), "{key}");
            assert_eq!(public(key).address(), text(&key["address"]), "{key}");
        }
    }
}

/// The places of all bits that change what is signed.
fn flips(key: &PublicKey, message: &[u8], signature: &Signature) -> Vec<(PublicKey, Vec<u8>, Signature)> {
    let mut flipped = Vec::new();
    for bit in 0..512 {
        let mut signature = *signature;
        signature.0[bit / 8] ^= 1 << (bit % 8);
        flipped.push((*key, message.to_vec(), signature));
    }
    for bit in 0..256 {
        let mut key = *key;
        key.key[bit / 8] ^= 1 << (bit % 8);
        flipped.push((key, message.to_vec(), *signature));
    }
    for bit in 0..message.len() * 8 {
        let mut message = message.to_vec();
        message[bit / 8] ^= 1 << (bit % 8);
        flipped.push((*key, message, *signature));
    }
    flipped
}

#[test]
fn no_flipped_bit_verifies() {
    let mut whole = Vec::new();
    for (at, (key, message, signature, wrapped)) in signed().iter().enumerate() {
        // The first of each scheme and form in full, and of the others every 61st, beginning elsewhere.
        let in_full = !whole.contains(&(key.scheme, wrapped.to_owned())) && !message.is_empty();
        if in_full {
            whole.push((key.scheme, *wrapped));
        }
        let message = &message[..message.len().min(300)];
        let signature =
            if message.len() == 300 { signer(key.scheme, "seed").sign(message).unwrap() } else { *signature };
        let (skip, step) = if in_full { (0, 1) } else { (at % 61, 61) };
        for (key, message, signature) in flips(key, message, &signature).into_iter().skip(skip).step_by(step) {
            assert!(!key.verify(&message, &signature), "signature {at}: {key} {signature}");
        }
    }
    assert_eq!(whole.len(), 4, "both schemes, wrapped and not");
}

#[test]
fn a_signature_has_one_form_and_weak_keys_sign_nothing() {
    // The order of the group, 2^252 + 27742317777372353535851937790883648493, which leaves a scalar what it is.
    let order = const_hex::decode("edd3f55c1a631258d69cf7a2def9de140000000000000000000000000000001000").unwrap();
    for scheme in [Scheme::Sr25519, Scheme::Ed25519] {
        let signer = signer(scheme, "seed");
        let signature = signer.sign(b"message").unwrap();
        let mut other = signature;
        let mut carry = 0;
        // schnorrkel marks its signatures in the highest bit.
        let mark = other.0[63] & 0x80;
        other.0[63] &= 0x7f;
        for (byte, more) in other.0[32..].iter_mut().zip(&order) {
            let sum = u16::from(*byte) + u16::from(*more) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        other.0[63] |= mark;
        assert!(other != signature && !signer.public().verify(b"message", &other), "{}: s + order", scheme.name());
    }
    // The neutral point as key and as R, and 0 as s, fit any message by RFC 8032's equation.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let key = PublicKey { scheme: Scheme::Ed25519, key: neutral };
    let mut signature = Signature([0; 64]);
    signature.0[0] = 1;
    assert!(!key.verify(b"anything", &signature), "a key of small order");
}

#[test]
fn ours_verify_and_secrets_are_not_shown() {
    for scheme in [Scheme::Sr25519, Scheme::Ed25519] {
        for kind in ["seed", "phrase", "uri"] {
            let (_folder, path) = key_file(scheme, kind);
            let signer = Signer::from_key_file(&path, None).unwrap();
            let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(signer.public().address(), text(&file["ss58Address"]), "{kind}");
            assert_eq!(signer.public().scheme, scheme, "{kind}: as the file says");
            for message in [&b""[..], b"x", &[0xff; 5000]] {
                let signature = signer.sign(message).unwrap();
                assert!(signer.public().verify(message, &signature), "{kind}");
                assert!(!signer.public().verify(b"another", &signature), "{kind}");
            }
            let private = text(&file["privateKey"]).trim_start_matches("0x").to_owned();
            let shown = format!("{signer:?} {signer:#?}");
            assert!(shown.contains("public") && !shown.contains(&private), "{shown}");
            assert!(!shown.contains("secret") && !shown.contains("Keypair"), "{shown}");
        }
    }
}

#[test]
fn a_seed_in_hexadecimal_is_a_key_of_either_scheme() {
    let seed = const_hex::encode("TEST KEY, NEVER SEND ANYTHING TO");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed");
    for (scheme, expected) in [
        (None, signer(Scheme::Sr25519, "seed").public()),
        (Some(Scheme::Sr25519), signer(Scheme::Sr25519, "seed").public()),
        (Some(Scheme::Ed25519), signer(Scheme::Ed25519, "seed").public()),
    ] {
        for written in [seed.clone(), format!("0x{seed}\n"), format!(" {}\r\n", seed.to_uppercase())] {
            fs::write(&path, &written).unwrap();
            assert_eq!(Signer::from_key_file(&path, scheme).unwrap().public(), expected, "{written:?} {scheme:?}");
        }
    }
}

#[test]
fn key_files_of_older_wallets_are_read() {
    let (_folder, path) = key_file(Scheme::Sr25519, "phrase");
    let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let expected = Signer::from_key_file(&path, None).unwrap().public();
    let without = |keys: &[&str]| {
        let mut file = whole.clone();
        keys.iter().for_each(|key| drop(file.as_object_mut().unwrap().remove(*key)));
        file
    };
    // Expanded as polkadot-js has it: the scalar times 8. The example of schnorrkel's documentation, which is this very key.
    let mut expanded = without(&["secretSeed", "cryptoType"]);
    expanded["privateKey"] = json!(concat!(
        "28b0ae221c6bb06856b287f60d7ea0d98552ea5a16db16956849aa371db3eb51",
        "fd190cce74df356432b410bd64682309d6dedb27c76845daf388557cbac3ca34"
    ));
    for (what, file) in [
        ("no scheme", without(&["cryptoType"])),
        ("the seed alone", without(&["privateKey", "cryptoType", "secretPhrase"])),
        ("the private key alone", without(&["secretSeed", "secretPhrase", "publicKey", "accountId"])),
        ("an expanded key", expanded),
    ] {
        fs::write(&path, file.to_string()).unwrap();
        assert_eq!(Signer::from_key_file(&path, None).unwrap().public(), expected, "{what}");
    }
}

#[test]
fn key_files_are_refused_by_name() {
    let (folder, path) = key_file(Scheme::Sr25519, "phrase");
    let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |changes: &[(&str, Value)]| {
        let mut file = whole.clone();
        for (key, value) in changes {
            file[*key] = value.clone();
        }
        file.to_string()
    };
    let other = signer(Scheme::Sr25519, "uri").public().address();
    let no = Value::Null;
    let (no_key, no_seed) = (("privateKey", no.clone()), ("secretSeed", no.clone()));
    let cases = [
        ("a wallet's vault", "$NACL\u{1}\u{2}hunter2".to_owned(), None),
        ("an Ansible vault", "$ANSIBLE_VAULT;1.1;AES256\nhunter2".to_owned(), None),
        ("an old vault", "gAAAAABhunter2".to_owned(), None),
        ("words alone", with(&[no_key.clone(), no_seed.clone()]), None),
        ("the public part", with(&[no_key.clone(), no_seed.clone(), ("secretPhrase", no.clone())]), None),
        ("another's address", with(&[("ss58Address", json!(other))]), None),
        ("no address", with(&[("ss58Address", no)]), None),
        ("a damaged address", with(&[("ss58Address", json!("5Dfh hunter2"))]), None),
        ("a broken key", with(&[("privateKey", json!("0xhunter2")), no_seed]), None),
        ("a broken seed", with(&[no_key, ("secretSeed", json!("0xhunter2"))]), None),
        ("a number for a key", with(&[("privateKey", json!(20_260_101))]), None),
        ("an unknown scheme", with(&[("cryptoType", json!(2))]), None),
        ("another scheme", with(&[]), Some(Scheme::Ed25519)),
        ("half a file", with(&[]).split_at(150).0.to_owned(), None),
        ("a short seed", "0x1234".to_owned(), None),
        ("words in a file", "bottom drive obey lake curtain smoke hunter2".to_owned(), None),
        ("nothing", String::new(), None),
    ];
    let secrets = ["hunter2", "bottom", "20260101", "05d65584", "fac7959d"];
    let mut said = String::new();
    for (what, written, scheme) in cases {
        fs::write(&path, written).unwrap();
        let error = Signer::from_key_file(&path, scheme).expect_err(what);
        let remedy = error.remedy().unwrap_or_else(|| panic!("{what}: no remedy"));
        let told = error.to_string().replace(&folder.path().display().to_string(), "");
        assert!(!secrets.iter().any(|secret| told.contains(secret)), "{what}: {told}");
        said.push_str(&format!("{what}\n  {told}\n  help: {remedy}\n"));
    }
    insta::assert_snapshot!("key_files", said);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = key_file(Scheme::Sr25519, "seed");
    for (mode, warned) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o644, true), (0o622, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let warning = permissions_warning(&path);
        assert_eq!(warning.is_some(), warned, "{mode:o}: {warning:?}");
        assert!(warning.is_none_or(|text| text.contains("chmod 600")), "{mode:o}: a remedy");
    }
    assert_eq!(permissions_warning(&path.join("nowhere")), None, "opening it says what is wrong");
}

#[cfg(unix)]
#[test]
fn a_command_signs_what_it_is_given() {
    let key = signer(Scheme::Sr25519, "seed");
    let signature = key.sign(b"a message\n").unwrap();
    // It answers only if it was given the message, and all of it.
    let line = format!(r#"sh -c 'test "$(od -An -c | tr -d " \n")" = "amessage\\n" && echo "0x$0"' {signature}"#);
    let command = Signer::command(&line, key.public()).unwrap();
    assert_eq!(command.sign(b"a message\n").unwrap(), signature, "as it printed it");
    let mut said = String::new();
    let echo = format!("echo {signature}");
    let other = signer(Scheme::Ed25519, "seed").public();
    for (what, line, public, message) in [
        ("another message", line.as_str(), key.public(), &b"another"[..]),
        ("always the same", &echo, key.public(), b"another"),
        ("another's key", &echo, other, b"a message\n"),
        ("it fails", "false", key.public(), b""),
        ("it prints words", "echo yes", key.public(), b""),
        ("it is nowhere", "/nowhere/signer --yes", key.public(), b""),
        ("quotes that stay open", "sign 'it", key.public(), b""),
        ("nothing", "  ", key.public(), b""),
    ] {
        let signed = Signer::command(line, public).and_then(|signer| signer.sign(message));
        let error = signed.expect_err(what);
        let remedy = error.remedy().unwrap_or_else(|| panic!("{what}: no remedy"));
        said.push_str(&format!("{what}\n  {error}\n  help: {remedy}\n"));
    }
    insta::assert_snapshot!("commands", said);
}

// ----------------------------------------------------------------------------------------------------------- approvals

const FROM: Digest = Digest([1; 32]);
const TO: Digest = Digest([2; 32]);
const PROPOSAL: Proposal = Proposal { from: FROM, to: TO, netuid: 5, mechanism: 1 };

/// Signers of recorded keys.
fn signers() -> Vec<Signer> {
    let kinds = ["seed", "phrase", "uri"];
    [Scheme::Sr25519, Scheme::Ed25519].iter().flat_map(|scheme| kinds.map(|kind| signer(*scheme, kind))).collect()
}

/// A subnet of these hotkeys, who all have a permit, and of others of no address.
fn state(hotkeys: &[String], stake: &[u64], hyper: Hyperparameters) -> State {
    let n = stake.len();
    let named = (0..n).map(|uid| hotkeys.get(uid).cloned().unwrap_or_else(|| format!("miner_{uid}")));
    State::new(Fields {
        netuid: 5,
        mechid: 1,
        hotkeys: named.collect(),
        stake: stake.to_vec(),
        validator_permit: (0..n).map(|uid| uid < hotkeys.len()).collect(),
        last_update: vec![0; n],
        block_at_registration: vec![0; n],
        weights: Csr::empty(n),
        bonds: Csr::empty(n),
        hyper,
        ..Fields::default()
    })
    .unwrap()
}

#[test]
fn what_is_signed_is_text_that_says_all() {
    let expected = format!(
        "tauscore criteria approval 1\nnetuid 5\nmechanism 1\nfrom {}\nto {}\n",
        "01".repeat(32),
        "02".repeat(32)
    );
    assert_eq!(PROPOSAL.message(), expected, "exactly this");
    let approval = PROPOSAL.approve(&signer(Scheme::Ed25519, "seed")).unwrap();
    let line = serde_json::to_string(&approval).unwrap();
    insta::assert_snapshot!("approval", line);
    assert_eq!(serde_json::from_str::<Approval>(&line).unwrap(), approval, "and read again");
    let bytes = borsh::to_vec(&approval).unwrap();
    assert_eq!(bytes.len(), 1 + 32 + 64 + 2 + 1 + 64, "no length is written");
    assert_eq!(borsh::from_slice::<Approval>(&bytes).unwrap(), approval, "and read again");
}

#[test]
fn stake_counts_as_the_epoch_counts_it() {
    let keys: Vec<String> = signers().iter().map(|signer| signer.public().address()).collect();
    let hyper = Hyperparameters {
        stake_threshold: 100,
        tao_weight: u64::MAX / 2,
        owner_uid: Some(4),
        ..Hyperparameters::default()
    };
    let mut fields = state(&keys[..3], &[1000, 99, 40, 7000, 5], hyper).into_fields();
    fields.tao_stake = Some(vec![0, 0, 121, 0, 0]);
    fields.hotkeys[4].clone_from(&keys[4]);
    let voters = voters(&State::new(fields).unwrap()).unwrap();
    let found: Vec<(u16, u64)> = voters.iter().map(|voter| (voter.uid, voter.stake)).collect();
    // 99 is below the threshold, half of 121 TAO lifts uid 2 above it, uid 3 has no permit, and the owner needs neither.
    assert_eq!(found, [(0, 1000), (1, 0), (2, 100), (4, 5)], "{voters:?}");
}

#[test]
fn approvals_are_counted_once_and_refused_by_name() {
    let signers = signers();
    let keys: Vec<String> = signers.iter().map(|signer| signer.public().address()).collect();
    let state =
        state(&keys[..4], &[40, 30, 20, 10, 900], Hyperparameters { kappa: 32_767, ..Hyperparameters::default() });
    let approve = |at: usize| PROPOSAL.approve(&signers[at]).unwrap();
    let count = |approvals: &[Approval]| tally(approvals, &state, FROM, TO);

    let nobody = count(&[]).unwrap();
    assert_eq!((nobody.approved, nobody.total, nobody.adopted), (0, 100, false), "who has no permit has no vote");
    let some = count(&[approve(1), approve(3)]).unwrap();
    assert_eq!((some.approved, some.total, some.kappa, some.adopted), (40, 100, 32_767, false), "{some:?}");
    let uids: Vec<u16> = some.approvers.iter().map(|voter| voter.uid).collect();
    assert_eq!(uids, [1, 3], "who it was");
    let more = count(&[approve(3), approve(1), approve(3), approve(2), approve(1)]).unwrap();
    assert_eq!((more.approved, more.adopted), (60, true), "each once: {more:?}");
    let again = count(&[approve(1), approve(2), approve(3)]).unwrap();
    assert_eq!(more, again, "in any order");

    // 32767 of 65535 is exactly kappa; and all is as much as can be asked for.
    for (stake, kappa, adopted) in [
        ([32_767, 32_768], 32_767, true),
        ([32_766, 32_769], 32_767, false),
        ([7, 0], u16::MAX, true),
        ([7, 1], u16::MAX, false),
        ([0, 7], 0, false),
        ([u64::MAX, u64::MAX], 32_767, true),
        ([u64::MAX, u64::MAX], 32_768, false),
    ] {
        let voters: Vec<Voter> =
            (0..).zip(&keys).zip(stake).map(|((uid, key), stake)| Voter { uid, hotkey: key.clone(), stake }).collect();
        let tally = recount(&PROPOSAL, &voters, kappa, &[approve(0)]).unwrap();
        assert_eq!(tally.adopted, adopted, "{tally:?}");
    }

    let elsewhere = Proposal { netuid: 6, ..PROPOSAL }.approve(&signers[0]).unwrap();
    let back = Proposal { from: TO, to: FROM, ..PROPOSAL }.approve(&signers[0]).unwrap();
    assert_eq!(count(&[elsewhere, back]).unwrap(), nobody, "those of other changes are not looked at");
    // As if they had been of this one.
    let forged = Approval { proposal: PROPOSAL, ..elsewhere };
    let borrowed = Approval { by: signers[1].public(), ..approve(0) };
    let mut other_scheme = approve(0);
    other_scheme.by.scheme = Scheme::Ed25519;
    for (what, approvals, problem) in [
        ("another subnet's", [approve(1), forged], "its signature is not that of the change"),
        ("another's signature", [approve(2), borrowed], "its signature is not that of the change"),
        ("another scheme", [approve(2), other_scheme], "its signature is not that of the change"),
        ("no validator", [approve(1), approve(5)], "not a validator with a permit"),
    ] {
        let error = count(&approvals).expect_err(what).to_string();
        assert!(error.contains(problem) && error.contains(&approvals[1].by.address()), "{what}: {error}");
    }
    let error = recount(&PROPOSAL, &voters(&state).unwrap(), 0, &[elsewhere]).expect_err("not of this change");
    assert!(error.to_string().contains("another change"), "{error}");

    let mut nameless = state.into_fields();
    nameless.hotkeys.clear();
    let error = voters(&State::new(nameless).unwrap()).expect_err("nobody can vote");
    assert!(error.to_string().contains("no hotkeys"), "{error}");
}

proptest! {
    /// A change is adopted where the chain's consensus of a yes as weight one and a no as weight zero is one.
    #[test]
    fn the_majority_is_the_consensus_of_the_chain(
        yes in prop::collection::vec(any::<bool>(), 6),
        cuts in prop::collection::vec(0..=1024_u64, 5),
        kappa in prop_oneof![Just(0), Just(1), Just(32_767), Just(32_768), Just(u16::MAX - 1), Just(u16::MAX), any::<u16>()],
    ) {
        // Shares of 1024, so that the chain's own are exact.
        let mut ends = [vec![0], cuts, vec![1024]].concat();
        ends.sort_unstable();
        let stake: Vec<u64> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let signed = SIGNED.with(Clone::clone);
        let voters: Vec<Voter> = (0..).zip(&stake).zip(signed.iter())
            .map(|((uid, &stake), approval)| Voter { uid, hotkey: approval.by.address(), stake })
            .collect();
        let approvals: Vec<Approval> =
            signed.iter().zip(&yes).filter(|(_, yes)| **yes).map(|(approval, _)| *approval).collect();
        let found = recount(&PROPOSAL, &voters, kappa, &approvals).unwrap();

        let active: Vec<I32F32> = stake.iter().map(|&stake| I32F32::from_bits((stake as i64) << 22)).collect();
        let one = I32F32::from_bits(1 << 32);
        let triples: Vec<(u16, u16, I32F32)> =
            (0..).zip(&yes).filter(|(_, yes)| **yes).map(|(row, _)| (row, 0, one)).collect();
        let weights = Csr::from_triples(6, &triples).unwrap();
        let consensus = Votes::default().consensus(&weights, &active, I32F32::from_proportion(kappa))[0];
        prop_assert_eq!(found.adopted, consensus == one, "{:?}", found);
    }
}

thread_local! {
    /// An approval by each of the signers.
    static SIGNED: std::rc::Rc<[Approval]> = signers().iter().map(|signer| PROPOSAL.approve(signer).unwrap()).collect();
}

// -------------------------------------------------------------------------------------------------------- the commands

#[cfg(feature = "cli")]
mod commands {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use common::ledgers;
    use tauscore::config::Config;
    use tauscore::ledger::Ledger;

    use super::*;

    /// Exit status, standard output and standard error of a run in a folder.
    fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tauscore"));
        command.args(args).current_dir(folder).env("COLUMNS", "100").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn place() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("old.toml", "");
        write("same.toml", "[copies]\nbits = 14\n");
        write(
            "new.toml",
            "[loss]\nkind = \"embedding\"\n\n[[weights.stages]]\nkind = \"softmax\"\ntemperature = 0.5\n",
        );
        write("newer.toml", "[loss]\nkind = \"embedding\"\n\n[[weights.stages]]\nkind = \"power\"\nexponent = 2.0\n");
        folder
    }

    #[test]
    fn differences_are_shown_and_told_by_the_exit_status() {
        let folder = place();
        let mut said = String::new();
        for (old, new) in [("old.toml", "same.toml"), ("old.toml", "new.toml"), ("new.toml", "newer.toml")] {
            let (code, out, err) = run(folder.path(), &["criteria", "diff", old, new]);
            assert_eq!((code, err.as_str()), (i32::from(new != "same.toml"), ""), "{old} {new}");
            said.push_str(&format!("$ tauscore criteria diff {old} {new}\n{out}"));
        }
        let (code, out, _) = run(folder.path(), &["criteria", "diff", "new.toml", "newer.toml", "--json"]);
        assert_eq!(code, 1, "{out}");
        said.push_str(&format!("$ tauscore criteria diff new.toml newer.toml --json\n{out}"));
        insta::assert_snapshot!("diff", said);

        let (_, digest, _) = run(folder.path(), &["criteria", "digest", "new.toml"]);
        let (_, json, _) = run(folder.path(), &["--json", "config", "--config", "new.toml"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(digest.trim(), text(&json["digest"]), "what `config` says");
        assert!(out.contains(digest.trim()), "and `diff`: {out}");
    }

    #[test]
    fn validators_approve_and_are_counted() {
        let folder = place();
        let signers = signers();
        let keys: Vec<String> = signers.iter().map(|signer| signer.public().address()).collect();
        state(
            &keys[..4],
            &[40_000_000_000, 30_000_000_000, 20_000_000_000, 10_000_000_000],
            Hyperparameters::default(),
        )
        .write(&folder.path().join("subnet.json"))
        .unwrap();
        let mut gathered = String::new();
        let change = ["--from", "old.toml", "--to", "new.toml"];
        let mut count = |line: &str| {
            gathered.push_str(line);
            fs::write(folder.path().join("approvals.jsonl"), &gathered).unwrap();
            run(
                folder.path(),
                &[&["criteria", "tally", "approvals.jsonl", "--metagraph", "subnet.json"], &change[..]].concat(),
            )
        };
        let (_keep, path) = key_file(Scheme::Sr25519, "phrase");
        let path = path.display().to_string();
        let approve = |more: &[&str]| {
            let args = ["criteria", "approve", "--netuid", "5", "--mechanism", "1"];
            let (code, out, err) = run(folder.path(), &[&args, &change[..], more].concat());
            assert_eq!(code, 0, "{err}");
            out
        };
        let by_file = approve(&["--sign", &path, "--quiet"]);
        let (code, out, err) = count(&by_file);
        assert_eq!((code, err.as_str()), (1, ""), "not enough: {out}");
        let mut said = out;

        // The digest does as well as the file, and a command as well as a key.
        let digest = run(folder.path(), &["criteria", "digest", "old.toml"]).1;
        let proposal: Approval = serde_json::from_str(&by_file).unwrap();
        assert_eq!(proposal.proposal.from.to_string(), digest.trim(), "what is approved");
        let signature = signers[0].sign(proposal.proposal.message().as_bytes()).unwrap();
        let command = format!("echo {signature}");
        let by_command = approve(&["--sign-command", &command, "--hotkey", &keys[0], "--quiet"]);
        let expected = Approval { by: signers[0].public(), signature, ..proposal };
        assert_eq!(serde_json::from_str::<Approval>(&by_command).unwrap(), expected, "as it was signed");
        let (code, out, err) = count(&by_command);
        assert_eq!((code, err.as_str()), (0, ""), "enough: {out}");
        said.push_str(&out);
        insta::assert_snapshot!("tally", said);

        let (code, out, _) = count(&(by_file.replace("\"to\"", "\"two\"")));
        assert_eq!((code, out.as_str()), (2, ""), "a damaged line");
    }

    #[test]
    fn a_ledger_adopts_what_enough_stake_approves() {
        let folder = place();
        let path = folder.path().join("l.ledger");
        let old = Config::read(&folder.path().join("old.toml")).unwrap();
        let new = Config::read(&folder.path().join("new.toml")).unwrap();
        ledgers::append(&mut Ledger::open(&path).unwrap(), &old, 1..=2, 3, 2);
        let signers = signers();
        let keys: Vec<String> = signers.iter().map(|signer| signer.public().address()).collect();
        let mut fields =
            state(&keys[..3], &[3_000_000_000, 4_000_000_000, 3_000_000_000], Hyperparameters::default()).into_fields();
        (fields.netuid, fields.mechid) = (ledgers::PLACE.netuid, ledgers::PLACE.mechanism);
        State::new(fields).unwrap().write(&folder.path().join("subnet.json")).unwrap();
        let proposal = Proposal {
            from: ledgers::digest(&old),
            to: ledgers::digest(&new),
            netuid: ledgers::PLACE.netuid,
            mechanism: ledgers::PLACE.mechanism,
        };
        let (_keep, key) = key_file(Scheme::Sr25519, "seed");
        let key = key.display().to_string();
        let adopt = |approvers: &[usize]| {
            let lines =
                approvers.iter().map(|at| serde_json::to_string(&proposal.approve(&signers[*at]).unwrap()).unwrap());
            fs::write(folder.path().join("approvals.jsonl"), lines.collect::<Vec<_>>().join("\n")).unwrap();
            let by = ["--approvals", "approvals.jsonl", "--metagraph", "subnet.json", "--sign", &key, "--quiet"];
            let args = ["criteria", "adopt", "l.ledger", "new.toml", "--averages", "reset"];
            run(folder.path(), &[&args[..], &by].concat())
        };
        let before = fs::read(&path).unwrap();
        for (approvers, problem) in
            [(&[1][..], "the change is not carried: 4.0000 of 10.0000 alpha"), (&[0, 2, 5], &keys[5])]
        {
            let (code, out, err) = adopt(approvers);
            assert_eq!((code, out.as_str()), (2, ""), "{approvers:?}");
            assert!(err.contains(problem), "{approvers:?}: {err}");
            assert!(fs::read(&path).unwrap() == before, "{approvers:?}: nothing is written");
        }
        let (code, out, err) = adopt(&[0, 2]);
        assert_eq!((code, err.as_str()), (0, ""), "60 % of the stake: {out}");
        assert!(out.contains(&format!("criteria {} from now on, with 6.0000 of 10.0000 alpha", proposal.to)), "{out}");

        let (code, out, err) = run(folder.path(), &["verify", "l.ledger"]);
        assert_eq!(code, 0, "it verifies: {out}{err}");
        let (code, out, _) = run(folder.path(), &["verify", "l.ledger", "--allow", &keys[0]]);
        assert_eq!(code, 1, "its rounds are not signed: {out}");
        let (code, _, err) = adopt(&[0, 2]);
        assert_eq!(code, 2, "it is in force already");
        assert!(err.contains("these are the criteria in force"), "{err}");
    }

    #[test]
    fn mistakes_are_told_with_a_remedy() {
        let folder = place();
        let (_keep, key) = key_file(Scheme::Ed25519, "seed");
        let key = key.display().to_string();
        fs::write(folder.path().join("approvals.jsonl"), "{\"hotkey\":\"5Dfh\",\"scheme\":\"sr25519\"}\n").unwrap();
        state(&[], &[1], Hyperparameters::default()).write(&folder.path().join("subnet.json")).unwrap();
        let approve = ["criteria", "approve", "--netuid", "5", "--to", "new.toml"];
        let mut said = String::new();
        for args in [
            approve.to_vec(),
            [&approve[..], &["--sign", &key, "--from", "new.toml"]].concat(),
            [&approve[..], &["--sign", &key, "--from", "nowhere.toml"]].concat(),
            [&approve[..], &["--sign", &key, "--scheme", "sr25519"]].concat(),
            [&approve[..], &["--sign-command", "false", "--hotkey", "5Dfh"]].concat(),
            vec!["criteria", "tally", "approvals.jsonl", "--to", "new.toml", "--metagraph", "subnet.json"],
            vec!["criteria", "digest", "nowhere.toml"],
        ] {
            let (code, out, err) = run(folder.path(), &[&args[..], &["--quiet"]].concat());
            assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
            assert_eq!(err.lines().count(), 2, "{args:?}: one line and its help: {err}");
            said.push_str(&format!("$ tauscore {}\n{err}", args.join(" ")));
        }
        insta::assert_snapshot!("mistakes", said.replace(&key, "hotkey"));
    }
}
