//! How fast everything goes.

use std::time::Duration;

/// Times of the machine; the defaults are what the design asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The second transport is dialled this long after the first: 250 ms.
    pub stagger: Duration,
    /// The same when the second is QUIC and was lost on this network shortly after it came up: 3 s.
    pub unsteady_stagger: Duration,
    /// From a dial to the first answer on the agent's line: 20 s, enough for a proxy that wants several round trips.
    pub attempt: Duration,
    /// First pause after a failed race: 500 ms. It doubles up to `pause_max`, and is spread over its second half.
    pub pause_min: Duration,
    /// Longest such pause: 30 s.
    pub pause_max: Duration,
    /// First pause before QUIC is tried again while on TCP: 15 s. It doubles up to `probe_max`.
    pub probe_min: Duration,
    /// Longest such pause: 10 min.
    pub probe_max: Duration,
    /// A connection that lived this long counts as a success; pauses are short again: 10 s.
    pub steady: Duration,
    /// A connection that gets no new streams is closed when it has carried none for this long: 1 s. A stream that was
    /// opened before the other end knew may still be on its way.
    pub linger: Duration,
    /// Pause before dialling a gateway that said it is leaving while its connection still carries streams: 5 s.
    pub leaving: Duration,
    /// Time that running streams get when the agent stops: 30 s.
    pub drain: Duration,
    /// Address changes that are answered by a dial at once, and losses after the shortest pause, as long as they do not
    /// come more often than this on the average: 10 s.
    pub prompt_every: Duration,
    /// How many of them may come together: 6.
    pub prompt_burst: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            stagger: Duration::from_millis(250),
            unsteady_stagger: Duration::from_secs(3),
            attempt: Duration::from_secs(20),
            pause_min: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
            probe_min: Duration::from_secs(15),
            probe_max: Duration::from_secs(600),
            steady: Duration::from_secs(10),
            linger: Duration::from_secs(1),
            leaving: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            prompt_every: Duration::from_secs(10),
            prompt_burst: 6,
        }
    }
}
