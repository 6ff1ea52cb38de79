//! Which service may ask for what.

use serde::{Deserialize, Serialize};

use crate::Request;

/// What one socket into the wallet is good for. Fixed for the life of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// Syncs: read service accounts' credentials.
    Sync,
    /// Actions: read a user's credential, to act as that user.
    Actions,
    /// Administration: write, delete, ask whether one exists. Never read.
    Admin,
}

impl Grant {
    /// Every grant, in the order in which sockets are handed to the wallet.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Actions, Self::Admin];

    /// Whether the request is within the grant.
    #[must_use]
    pub const fn permits(self, request: &Request) -> bool {
        match (self, request) {
            (Self::Sync, Request::ReadService { .. })
            | (Self::Actions, Request::ReadUser { .. })
            | (Self::Admin, Request::Write { .. } | Request::Delete { .. } | Request::Exists { .. }) => true,
            (Self::Sync | Self::Actions | Self::Admin, _) => false,
        }
    }
}
