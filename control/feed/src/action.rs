//! Acting on a row as a user: look again, judge, write, read back.

use sluice_control_sync::{
    Action, Declaration, DetailError, FetchError, Found, Request, Response, Row, Table, detail_request, read_detail,
    write_request,
};
use sluice_node_identity::UnixTime;

/// A row that changes between looking and writing is looked at again, and written at most so often.
pub const MAX_WRITES: u8 = 2;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'r> {
    /// Nothing yet.
    Begin,
    /// The response to the last request.
    Response(&'r Response),
    /// The connection broke: whether the request arrived is not known.
    Lost,
    /// Whether the user may see the row he was judged by.
    Judged(bool),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Send this with the user's own credential.
    Send(Request),
    /// Say whether the user may see this row.
    Judge(Row),
    /// It is over.
    Finish(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Written, read back, as expected.
    Written(Row),
    /// It was done already; nothing was written.
    Already(Row),
    /// It may no longer be done; nothing was written.
    TooLate(Row),
    /// The row is gone.
    Gone,
    /// The row is not the user's to act on (any more); nothing was written.
    NotYours,
    /// The system of record refused the user's login or rights.
    Refused,
    /// Not done, or not known to be done; the text is for the user. A row that was read goes into the cache.
    Failed(String, Option<Row>),
}

impl Outcome {
    /// For the user.
    #[must_use]
    pub fn sentence(&self, label: &str) -> String {
        match self {
            Self::Written(_) => format!("{label}: done."),
            Self::Already(_) => format!("{label}: it was done already."),
            Self::TooLate(_) => format!("{label}: this is no longer possible, the record has changed."),
            Self::Gone => format!("{label}: the record no longer exists."),
            Self::NotYours => format!("{label}: the record is somebody else's now."),
            Self::Refused => format!("{label}: the application refused your login; store it again under Credentials."),
            Self::Failed(why, _) => format!("{label}: {why}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Start,
    Checking,
    Judging(Found),
    Writing,
    ReadingBack { again: bool },
    Over,
}

/// One run of an action.
#[derive(Debug)]
pub struct Plan<'d> {
    declaration: &'d Declaration,
    table: &'d Table,
    action: &'d Action,
    row: Row,
    now: UnixTime,
    phase: Phase,
    writes: u8,
}

impl<'d> Plan<'d> {
    /// Runs `action` on the row with the key of `row`; `None` when the action is not of this declaration.
    #[must_use]
    pub fn new(declaration: &'d Declaration, action: &'d Action, row: Row, now: UnixTime) -> Option<Self> {
        let table = declaration.tables.get(action.table)?;
        Some(Self { declaration, table, action, row, now, phase: Phase::Start, writes: 0 })
    }

    /// Goes on. An input that does not belong to the phase ends the run without a write.
    pub fn step(&mut self, input: Input<'_>) -> Next {
        match (std::mem::replace(&mut self.phase, Phase::Over), input) {
            (Phase::Start, Input::Begin) => self.look(Phase::Checking),
            (Phase::Checking, Input::Response(response)) => self.checked(response),
            (Phase::Judging(found), Input::Judged(true)) => self.write(&found),
            (Phase::Judging(_), Input::Judged(false)) => Next::Finish(Outcome::NotYours),
            (Phase::Writing, Input::Response(response)) => self.written(response),
            // The write may have arrived: only looking tells.
            (Phase::Writing, Input::Lost) => self.look(Phase::ReadingBack { again: true }),
            (Phase::ReadingBack { again }, Input::Response(response)) => self.read_back(response, again),
            (Phase::ReadingBack { again: true }, Input::Lost) => self.look(Phase::ReadingBack { again: false }),
            (Phase::ReadingBack { .. }, Input::Lost) => {
                failed("it was sent, but the answer was lost; look again soon.", None)
            }
            _ => failed("the application cannot be reached now; try again.", None),
        }
    }

    fn look(&mut self, phase: Phase) -> Next {
        match detail_request(self.declaration, self.table, &self.row) {
            Ok(request) => {
                self.phase = phase;
                Next::Send(request)
            }
            Err(error) => failed(&error.to_string(), None),
        }
    }

    fn checked(&mut self, response: &Response) -> Next {
        let found = match read_detail(self.table, &self.row, response) {
            Ok(Some(found)) => found,
            Ok(None) => return Next::Finish(Outcome::Gone),
            Err(error) => return unread(&error),
        };
        let row = found.row.clone();
        self.phase = Phase::Judging(found);
        Next::Judge(row)
    }

    fn write(&mut self, found: &Found) -> Next {
        if self.action.expect.holds_of(&found.row, self.now) {
            return Next::Finish(Outcome::Already(found.row.clone()));
        }
        if !self.action.check.holds_of(&found.row, self.now) {
            return Next::Finish(Outcome::TooLate(found.row.clone()));
        }
        match write_request(self.declaration, self.action, found) {
            Ok(request) => {
                self.writes += 1;
                self.phase = Phase::Writing;
                Next::Send(request)
            }
            Err(error) => failed(&error.to_string(), Some(found.row.clone())),
        }
    }

    fn written(&mut self, response: &Response) -> Next {
        match response.status {
            200..=299 => self.look(Phase::ReadingBack { again: true }),
            401 | 403 => Next::Finish(Outcome::Refused),
            404 | 410 => Next::Finish(Outcome::Gone),
            409 | 412 if self.writes < MAX_WRITES => self.look(Phase::Checking),
            409 | 412 => failed("the record keeps changing; look at it and try again.", None),
            status => failed(&format!("the application refused it (status {status})."), None),
        }
    }

    fn read_back(&mut self, response: &Response, again: bool) -> Next {
        match read_detail(self.table, &self.row, response) {
            Ok(Some(found)) if self.action.expect.holds_of(&found.row, self.now) => {
                Next::Finish(Outcome::Written(found.row))
            }
            Ok(Some(found)) => failed("the application did not change the record; look at it there.", Some(found.row)),
            Ok(None) => Next::Finish(Outcome::Gone),
            Err(_) if again => self.look(Phase::ReadingBack { again: false }),
            Err(_) => failed("it was sent, but could not be read back; look again soon.", None),
        }
    }
}

fn unread(error: &DetailError) -> Next {
    match error {
        DetailError::Fetch(FetchError::Unauthorized(_)) => Next::Finish(Outcome::Refused),
        other => failed(&format!("the record cannot be read: {other}."), None),
    }
}

fn failed(why: &str, row: Option<Row>) -> Next {
    Next::Finish(Outcome::Failed(why.to_owned(), row))
}
