//! What every node runs: joining, renewal, and the watches on its document and state.
//!
//! The shell over `sluice-node-identity`: it dials control, keeps the identity in the state directory and hands the
//! other shells their TLS configurations. It holds no policy: what the document means is the role's business.

mod call;
mod certificate;
mod dial;
mod disk;
mod follow;
mod gate;
mod identity;
mod join;
mod kept;
mod key;
mod node;
mod pause;
mod renew;
mod sse;
mod tls;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

pub use call::CallError;
pub use dial::{Dial, Dialled, Direct, Io};
pub use kept::{JoinPlan, Kept, join_plan, kept};
pub use key::{TokenSettings, look_for_token};
pub use node::{Node, Ready};
pub use pause::Pause;

/// Where a node keeps its identity and how it reaches control.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory (made with mode 0700) for identity, key, last good document and state.
    pub state_dir: PathBuf,
    /// File (mode 0600) with the join code. Read at start: a code that has not been used by this node yet makes it
    /// join; without one the stored identity is used.
    pub join_code_file: Option<PathBuf>,
    /// Dial this instead of resolving the host of control's URL. Verification stays the same.
    pub control_address: Option<SocketAddr>,
    /// Where keys are made and used; without one, in the state directory.
    pub token: Option<TokenSettings>,
}

/// Applies a document, or says why the role cannot. A document that is refused changes nothing, neither here nor on
/// disk; control is told, and the judge is asked again later as long as nothing newer comes. The same document may be
/// offered more than once.
pub type Judge = Arc<dyn Fn(&sluice_node_identity::ConfigEnvelope) -> Result<(), String> + Send + Sync>;
