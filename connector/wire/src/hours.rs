//! Weekly time windows in UTC: when a rule holds, until when, and when it holds next.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sluice_node_identity::UnixTime;
use thiserror::Error;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;
const WEEK: u64 = 7 * DAY;
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
/// 1970-01-01 was a Thursday; weeks here begin on Monday.
const EPOCH_OFFSET: u64 = 3 * DAY;
/// Longest text that is read as a window.
const MAX_TEXT: usize = 64;

/// A day of the week, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }

    const fn number(self) -> u64 {
        self as u64
    }

    fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|day| day.as_str() == text)
    }
}

/// Some hours of some days of every week. Written `mon-fri 06:00-18:00`; one whose end is before its beginning ends
/// on the next day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeeklyWindow {
    /// On which days it begins: at least one, in order, each once.
    pub days: Vec<Day>,
    /// First minute of the day, 0 to 1439.
    pub from: u16,
    /// The minute it ends before, 1 to 1440; not `from`.
    pub to: u16,
}

/// Not a window.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a weekly window is days and hours in UTC, such as \"mon-fri 06:00-18:00\" or \"sat,sun 22:00-04:00\"")]
pub struct BadWindow;

/// Whether one of some windows is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// They never close, or there are none.
    Always,
    /// Open now; closed from then on.
    Until(UnixTime),
    /// Closed now.
    Closed {
        /// When the next one opens.
        opens: UnixTime,
    },
}

impl WeeklyWindow {
    /// Whether it is one that somebody can mean.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let ordered = self.days.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let minutes = self.from < DAY_MINUTES && (1..=DAY_MINUTES).contains(&self.to);
        !self.days.is_empty() && ordered && minutes && self.from != self.to
    }

    /// Seconds from beginning to end.
    fn length(&self) -> u64 {
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        let minutes =
            if to > from { to - from } else { to.saturating_add(u64::from(DAY_MINUTES)).saturating_sub(from) };
        minutes.saturating_mul(MINUTE)
    }

    /// Seconds into the week at which it begins, for each of its days.
    fn begins(&self) -> impl Iterator<Item = u64> {
        let from = u64::from(self.from).saturating_mul(MINUTE);
        self.days.iter().map(move |day| day.number().saturating_mul(DAY).saturating_add(from))
    }

    /// When it closes, if it is open.
    fn closes(&self, now: UnixTime) -> Option<UnixTime> {
        let (at, length) = (second_of_week(now), self.length());
        let since = self.begins().map(|begin| at.saturating_add(WEEK).saturating_sub(begin) % WEEK);
        since.filter(|since| *since < length).map(|since| now.plus(length - since)).max()
    }

    /// When it begins next.
    fn opens(&self, now: UnixTime) -> Option<UnixTime> {
        let at = second_of_week(now);
        self.begins().map(|begin| now.plus(begin.saturating_add(WEEK).saturating_sub(at) % WEEK)).min()
    }
}

fn second_of_week(now: UnixTime) -> u64 {
    (now.0 % WEEK + EPOCH_OFFSET) % WEEK
}

/// Whether one of `windows` is open; no windows at all mean always.
pub(crate) fn open(windows: &[WeeklyWindow], now: UnixTime) -> bool {
    windows.is_empty() || windows.iter().any(|window| window.closes(now).is_some())
}

/// Whether and until when one of `windows` is open. Windows that follow each other without a gap are one.
#[must_use]
pub fn hours(windows: &[WeeklyWindow], now: UnixTime) -> Hours {
    if windows.is_empty() {
        return Hours::Always;
    }
    let mut until = now;
    while let Some(end) = windows.iter().filter_map(|window| window.closes(until)).max() {
        if end <= until || end.since(now) >= WEEK {
            return Hours::Always;
        }
        until = end;
    }
    if until > now {
        return Hours::Until(until);
    }
    let opens = windows.iter().filter_map(|window| window.opens(now)).min();
    Hours::Closed { opens: opens.unwrap_or(UnixTime(u64::MAX)) }
}

impl fmt::Display for WeeklyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.days.as_slice();
        while let Some(first) = rest.first() {
            let run = rest.iter().zip(first.number()..).take_while(|(day, number)| day.number() == *number).count();
            // Two days are shorter as a list.
            let run = if run < 3 { 1 } else { run };
            let last = rest.get(run.saturating_sub(1)).unwrap_or(first);
            f.write_str(first.as_str())?;
            if run > 1 {
                write!(f, "-{}", last.as_str())?;
            }
            rest = rest.get(run..).unwrap_or_default();
            f.write_str(if rest.is_empty() { " " } else { "," })?;
        }
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

impl FromStr for WeeklyWindow {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        if text.len() > MAX_TEXT {
            return Err(BadWindow);
        }
        let (days, hours) = text.trim().rsplit_once(' ').unwrap_or(("mon-sun", text.trim()));
        let (from, to) = hours.split_once('-').ok_or(BadWindow)?;
        let window = Self { days: days_in(days.trim())?, from: minute(from)?, to: minute(to)? };
        if window.is_sound() { Ok(window) } else { Err(BadWindow) }
    }
}

fn days_in(text: &str) -> Result<Vec<Day>, BadWindow> {
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (Day::named(first).ok_or(BadWindow)?, Day::named(last).ok_or(BadWindow)?);
        // `fri-mon` goes round the end of the week.
        let mut round = Day::ALL.into_iter().cycle().skip_while(|day| *day != first);
        for day in round.by_ref().take(Day::ALL.len()) {
            days.push(day);
            if day == last {
                break;
            }
        }
    }
    let many = days.len();
    days.sort_unstable();
    days.dedup();
    if days.len() == many { Ok(days) } else { Err(BadWindow) }
}

fn minute(text: &str) -> Result<u16, BadWindow> {
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let (hour, minute) = text.split_once(':').filter(|(h, m)| digits(h) && digits(m)).ok_or(BadWindow)?;
    let (hour, minute): (u16, u16) = (hour.parse().map_err(|_| BadWindow)?, minute.parse().map_err(|_| BadWindow)?);
    if minute >= 60 || hour > 24 {
        return Err(BadWindow);
    }
    Ok(hour.saturating_mul(60).saturating_add(minute))
}
