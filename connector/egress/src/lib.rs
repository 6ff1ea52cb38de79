//! How a connector gets out of its site: directly or through the customer's web proxy.
//!
//! The shell over `sluice-connector-webproxy`, which holds the rules. [`Egress::connect`] gives a connection that
//! carries bytes to a host and port, and says how it came about; [`Egress::explain`] says which way would be taken,
//! without taking it. What strangers write (PAC scripts, login tokens) is read in processes of their own: [`worker`].

mod connect;
mod connected;
mod dial;
mod kdc;
mod login;
mod script;
mod through;
mod tls;
pub mod worker;

pub use connect::{Egress, EgressError, Explanation, Guard, Setup};
pub use connected::{Connected, Io};
pub use kdc::{Kerberos, KerberosSecret};
pub use script::PacSource;
pub use tls::Trust;
