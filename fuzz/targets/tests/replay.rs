//! Every committed seed, and seeded mutations of them, through every target.
//!
//! `SLUICE_FUZZ_ROUNDS` says how many mutations each target gets; `SLUICE_LONG` multiplies the usual number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeSet,
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use sluice_fuzz_targets::{TARGETS, for_each_target, take_accepted};

mod mutate;

use mutate::{Random, mutate};

/// Mutations of each target in the gate: about 20 s in all.
const ROUNDS: u32 = 15_000;
/// How many times more when there is time.
const LONG: u32 = 40;
/// Limits of what is committed.
const MAX_SEED: usize = 4 * 1024;
const MAX_SEEDS: usize = 64;

fn fuzz() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn rounds() -> u32 {
    let usual = if env::var_os("SLUICE_LONG").is_some() { ROUNDS * LONG } else { ROUNDS };
    env::var("SLUICE_FUZZ_ROUNDS").map_or(usual, |text| text.parse().expect("SLUICE_FUZZ_ROUNDS is a number"))
}

/// The seeds of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join("corpora").join(name);
    let files: Vec<_> = names_in(&folder).into_iter().map(|file| folder.join(file)).collect();
    assert!(!files.is_empty() && files.len() <= MAX_SEEDS, "{name}: {} seeds", files.len());
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() <= MAX_SEED, "{} has {} bytes", path.display(), bytes.len());
        (path, bytes)
    };
    files.into_iter().map(read).collect()
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).unwrap().1;
    let seeds = corpus(name);
    let mut good = 0;
    for (path, seed) in &seeds {
        let _before = take_accepted();
        assert!(catch_unwind(|| target(seed)).is_ok(), "{name} fails on the seed {}", path.display());
        let (accepted, file) = (take_accepted(), path.file_name().unwrap().to_string_lossy());
        assert!(accepted || !file.starts_with("good-"), "{} is not accepted any more", path.display());
        assert!(!accepted || !file.starts_with("bad-"), "{} is accepted", path.display());
        good += usize::from(accepted);
    }
    assert!(good > 0, "no seed of {name} passes its parser");
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, seed)| seed).collect();
    let mut random = Random::of(name);
    for round in 0..rounds() {
        let input = mutate(&seeds, &mut random);
        if catch_unwind(|| target(&input)).is_err() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{round}"));
            fs::write(&kept, &input).unwrap();
            let shown = input.escape_ascii();
            panic!(
                "{name} fails in round {round}; its input is in {}; mend it and keep it as a seed: {shown}",
                kept.display()
            );
        }
    }
}

macro_rules! replay_each {
    ($($name:ident),*) => { $(#[test] fn $name() { replay(stringify!($name)); })* };
}

for_each_target!(replay_each);

#[test]
fn every_target_has_a_corpus_and_a_libfuzzer_program_and_no_other_exists() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    assert_eq!(names_in(&fuzz().join("corpora")), targets);
    let programs: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in(&fuzz().join("fuzz_targets")), programs);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is missing in fuzz/Cargo.toml");
        let program = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("sluice_fuzz_targets::{name}(")), "{name}.rs calls something else");
    }
}

#[test]
fn mutation_is_the_same_every_time_and_not_the_identity() {
    let seeds = vec![b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n".to_vec(), vec![0; 300]];
    let series = |name: &str| {
        let mut random = Random::of(name);
        (0..200).map(|_| mutate(&seeds, &mut random)).collect::<Vec<_>>()
    };
    assert_eq!(series("a"), series("a"));
    assert_ne!(series("a"), series("b"));
    assert!(series("a").iter().collect::<BTreeSet<_>>().len() > 150);
}
