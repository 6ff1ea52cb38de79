//! Who may see what, which changes make cards, how they rank, when they close, and acting on them.
//!
//! Pure: rows are looked up through [`Lookup`], time is passed in, requests are values.

mod action;
mod card;
mod people;
mod score;
mod viewer;

pub use action::{Input, MAX_WRITES, Next, Outcome, Plan};
pub use card::{CardText, Context, FeedMessage, NewCard, derive, verdict};
pub use people::{People, Person};
pub use score::{Score, score};
pub use viewer::{Lookup, Visible, see};
