//! Where seeds come from: valid samples of every format, and the shapes that have broken readers before.
//!
//! `SLUICE_BLESS=1` writes those that are missing (signatures differ each time, so what is there stays). `good-…` must pass its parser, `bad-…` must not; the name of a bad one says what is
//! wrong with it, or where it did harm. Seeds called `regression-…` were found here and are kept by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, env, fs, path::Path};

mod seed {
    pub(crate) mod egress;
    pub(crate) mod http;
    pub(crate) mod json;
    pub(crate) mod lan;
    pub(crate) mod mux;
    pub(crate) mod sealed;
    pub(crate) mod signed;
    pub(crate) mod text;
    pub(crate) mod tls;

    /// One file.
    pub(crate) struct Seed {
        pub(crate) target: &'static str,
        pub(crate) name: &'static str,
        pub(crate) bytes: Vec<u8>,
    }

    /// Short for tables of seeds.
    pub(crate) fn seed(target: &'static str, name: &'static str, bytes: impl Into<Vec<u8>>) -> Seed {
        Seed { target, name, bytes: bytes.into() }
    }
}

use seed::Seed;

fn all() -> Vec<Seed> {
    let mut seeds = seed::tls::seeds();
    seeds.extend(seed::egress::seeds());
    seeds.extend(seed::http::seeds());
    seeds.extend(seed::json::seeds());
    seeds.extend(seed::lan::seeds());
    seeds.extend(seed::mux::seeds());
    seeds.extend(seed::sealed::seeds());
    seeds.extend(seed::signed::seeds());
    seeds.extend(seed::text::seeds());
    seeds
}

#[test]
fn every_seed_is_committed_and_every_committed_seed_is_known() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("corpora");
    let mut known = BTreeSet::new();
    for Seed { target, name, bytes } in all() {
        assert!(known.insert((target.to_owned(), name.to_owned())), "two seeds {target}/{name}");
        let path = corpora.join(target).join(name);
        if env::var_os("SLUICE_BLESS").is_some() && !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        assert!(path.is_file(), "{} is missing; run this test with SLUICE_BLESS=1", path.display());
    }
    for folder in fs::read_dir(&corpora).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            let (target, name) = (folder.file_name().into_string().unwrap(), file.file_name().into_string().unwrap());
            assert!(
                name.starts_with("regression-") || known.contains(&(target.clone(), name.clone())),
                "nobody makes {target}/{name}"
            );
        }
    }
}
