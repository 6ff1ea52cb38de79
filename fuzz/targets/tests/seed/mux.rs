//! Frames of streams, datagrams in one, frames of workers.

use super::{Seed, seed as one};

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = scripts();
    seeds.extend(datagrams());
    seeds.extend(workers());
    seeds
}

/// The steps of `sluice_fuzz_targets::mux`: a byte that says what, one that says which, two for a size.
const fn data(flags: u8, stream: u8, size: u16) -> [u8; 4] {
    let [high, low] = size.to_be_bytes();
    [1 | flags << 5, stream, high, low]
}

const fn window(flags: u8, stream: u8, size: u16) -> [u8; 4] {
    let [high, low] = size.to_be_bytes();
    [1 | 1 << 3 | flags << 5, stream, high, low]
}

const SYN: u8 = 1;
const FIN: u8 = 4;
const OPEN: [u8; 4] = [4, 0, 0, 0];
const WRITE: [u8; 4] = [5, 0, 0xff, 0xff];
const READ: [u8; 4] = [6, 0, 0xff, 0xff];
const FINISH: [u8; 4] = [7, 0, 0, 2];
const FORGET: [u8; 4] = [7, 0, 0, 1];

fn scripts() -> Vec<Seed> {
    let script = |end: u8, steps: &[[u8; 4]]| [&[end][..], &steps.concat()].concat();
    let full = u16::MAX;
    let keeping_up: Vec<[u8; 4]> = std::iter::once(data(SYN, 2, full))
        .chain((0..40).flat_map(|_| [READ, data(0, 2, full), READ]))
        .chain([data(FIN, 2, 5), READ, FINISH, FORGET])
        .collect();
    let asked = [OPEN, WRITE, WRITE, window(2, 2, 9), data(2, 2, 5), READ, data(FIN, 2, 0), READ, FINISH, FORGET];
    vec![
        one("mux", "good-answered", script(0, &[data(SYN, 2, 5), READ, WRITE, data(FIN, 2, 0), READ, FINISH, FORGET])),
        one("mux", "good-reader-that-keeps-up", script(0, &keeping_up)),
        one("mux", "good-opened-by-us", script(1, &asked)),
        one("mux", "good-given-up", script(0, &[window(SYN, 2, 0), FORGET, data(0, 2, 100), data(0, 2, 100)])),
        one("mux", "good-empty-tiny", script(0, &[data(SYN, 2, 1), data(0, 2, 0), data(0, 2, 1), window(0, 2, 0)])),
        one(
            "mux",
            "bad-beyond-window",
            script(0, &[data(SYN, 2, full), data(0, 2, full), data(0, 2, full), data(0, 2, full), data(0, 2, full)]),
        ),
        one("mux", "bad-number-of-ours", script(0, &[data(SYN, 1, 0)])),
        one("mux", "bad-number-goes-back", script(0, &[data(SYN, 4, 0), data(SYN, 2, 0)])),
        one("mux", "bad-second-line", script(1, &[data(SYN, 1, 0), data(SYN, 3, 0)])),
        one("mux", "bad-data-after-end", script(0, &[data(SYN | FIN, 2, 1), data(0, 2, 1)])),
    ]
}

fn datagrams() -> Vec<Seed> {
    vec![
        one("datagrams", "good-three", b"\0\x03abc\0\0\0\x01z".to_vec()),
        one("datagrams", "good-many-empty", vec![0; 2000]),
        one("datagrams", "bad-half", b"\0\x03abc\0\x09half".to_vec()),
        one("datagrams", "bad-length", vec![0xff, 0xff, 1, 2, 3]),
    ]
}

fn workers() -> Vec<Seed> {
    let frame = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let job = r#"{"pac":{"script":"function FindProxyForURL(){}","url":"https://h/","host":"h","mine":"10.0.0.1"}}"#;
    let login = r#"{"login":{"name":"svc","realm":"CORP.TEST","secret":{"key":{"kind":18,"key":[1,2,3]}},"service":"HTTP/p","workstation":"W"}}"#;
    vec![
        one("worker_frame", "good-job", frame(job)),
        one("worker_frame", "good-login", frame(login)),
        one(
            "worker_frame",
            "good-asks-then-fails",
            [frame(r#"{"resolve":"h.test"}"#), frame(r#"{"failed":"no"}"#)].concat(),
        ),
        one("worker_frame", "good-kdc", frame(r#"{"kdc":{"realm":"R","request":[0,0,0,1,7]}}"#)),
        one("worker_frame", "bad-length", vec![0xff; 64]),
        one("worker_frame", "bad-unknown", frame(r#"{"shell":"id"}"#)),
        one("worker_frame", "bad-more-fields", frame(r#"{"kdc":{"realm":"R","request":[],"host":"evil"}}"#)),
    ]
}
