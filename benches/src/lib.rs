//! One module per published claim: measures us beside our peers and prints the table.
//!
//! The programs here are the two ends of a tunnel without the product around them (`bench-gate`, `bench-agent`,
//! `bench-house`), a load maker (`bench-load`) and the measuring itself (`bench`, started by `cargo xtask bench`).

pub mod forward;
pub mod gate;
pub mod house;
pub mod load;
pub mod report;
pub mod stats;
pub mod tunnel;
