//! The wallet's process: keeps sealed credentials and serves them over sockets that each have one fixed grant.

mod client;
mod files;
mod frame;
mod records;
mod serve;
mod spawn;

pub use client::{Client, WalletError};
pub use records::backup;
pub use serve::run;
pub use spawn::{Account, WalletClients, inherited, spawn};
