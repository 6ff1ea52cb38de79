//! Seeded mutation: bits, bytes, lengths, numbers, pieces of other seeds.

/// Longest input that is made.
const MAX_INPUT: usize = 8 * 1024;

/// Pieces that have confused readers before.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\0",
    b"\t",
    b" ",
    b"\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: x\r\n",
    b"__Host-sluice=",
    b"=",
    b";",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"..",
    b"/../",
    b"%2F",
    b"%00",
    b":",
    b"+",
    b"-",
    b"0x",
    b"127.1",
    b"\xff\xff",
    b"\xc3\x28",
    b"\xe2\x80\xae",
    b"data: ",
    b"https://",
    b"spiffe://",
];
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"+5",
    b"05",
    b"1e400",
    b"-0",
    b"0.5",
    b"65535",
    b"65536",
    b"4294967295",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
];
const BYTES: &[u8] = &[0, 1, 2, 0x7f, 0x80, 0xc0, 0xfe, 0xff, b'\r', b'\n', b'"', b'.', b'=', b'A'];

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    /// A series that belongs to `name`.
    pub(crate) fn of(name: &str) -> Self {
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.next().checked_rem(bound).unwrap_or(0)).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// One seed, changed in one to four ways.
pub(crate) fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(seeds).clone();
    for _ in 0..=random.below(4) {
        change(&mut input, seeds, random);
    }
    input.truncate(MAX_INPUT);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len());
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(10) {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = *random.pick(BYTES);
            }
        }
        3 => input.truncate(at),
        4 => drop(input.drain(at..end)),
        5 => {
            let piece = input[at..end].repeat(1 + random.below(8));
            input.splice(at..at, piece);
        }
        6 => {
            let other = random.pick(seeds);
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        7 => length(input, at, random),
        8 => number(input, at, random),
        _ => drop(input.splice(at..at, random.pick(WORDS).iter().copied())),
    }
}

/// Takes the bytes at `at` for a length in one, two or four bytes, and says something else.
fn length(input: &mut [u8], at: usize, random: &mut Random) {
    let size = [1, 2, 4][random.below(3)];
    let rest = u32::try_from(input.len() - at).unwrap();
    let Some(field) = input.get_mut(at..at + size) else { return };
    let old = field.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
    let choices = [0, 1, u32::MAX, rest, rest.wrapping_sub(1), old.wrapping_add(1), old.wrapping_sub(1), 0x7fff_ffff];
    field.copy_from_slice(&random.pick(&choices).to_be_bytes()[4 - size..]);
}

/// Puts another number in place of the next one in the text.
fn number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|skip| at + skip) else { return };
    let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    input.splice(start..start + digits, random.pick(NUMBERS).iter().copied());
}
