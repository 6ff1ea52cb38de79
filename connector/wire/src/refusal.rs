//! Why a stream was not opened: a stable code, whose fault it is, and whether to try again.

use thiserror::Error;

use crate::OpenReply;

/// Who can do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Who asked (a gateway or control): token, clock or certificate.
    Caller,
    /// The allow-list: an administrator, or control when it is late.
    List,
    /// The application or its network.
    Target,
    /// The connector itself.
    Connector,
}

/// A refusal. What a caller is told never says what exists: a missing resource and a forbidden one look the same.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not one of our frames, or not in time.
    #[error("the first frame is not a stream request; send one within 10 s and nothing before the answer")]
    BadFrame,
    /// Not a token, or not signed by a known caller with its algorithm.
    #[error("the token is not signed by a caller this connector knows; register the caller's key with control")]
    NotTrusted,
    /// The caller may not open this kind of stream.
    #[error("this caller may not open this kind of stream; gateways open direct streams, control sealed ones")]
    WrongKind,
    /// Presented by somebody else than its caller.
    #[error("the token is another caller's than the one that presents it; each presents its own")]
    WrongCaller,
    /// For another connector.
    #[error("the token is for another connector")]
    WrongAudience,
    /// For another tunnel session.
    #[error("the token is for another tunnel session; mint one for the session in use")]
    WrongSession,
    /// Presented over a connection that is not its caller's.
    #[error("the token is bound to another certificate than the one that presents it; connect again")]
    WrongCertificate,
    /// Too late.
    #[error(
        "the token ended {skew} s ago by the connector's clock: that one is ahead, or the caller's is behind; set both"
    )]
    Expired {
        /// Seconds past its end.
        skew: u64,
    },
    /// Too early.
    #[error(
        "the token was issued {skew} s in the future by the connector's clock: that one is behind, or the caller's is ahead; set both"
    )]
    FromTheFuture {
        /// Seconds until its beginning.
        skew: u64,
    },
    /// `exp` − `iat` too long, or negative.
    #[error("a token lives 1 to 30 s, this one {life} s")]
    BadLife {
        /// Seconds; 0 also for an end before the beginning.
        life: u64,
    },
    /// Used before.
    #[error("the token was used before; mint a new one for each stream")]
    Spent,
    /// No room to remember another token.
    #[error("the connector cannot remember more tokens of this caller now; try again in a minute")]
    SpentFull,
    /// There is no list yet.
    #[error("the connector has no allow-list yet; wait until it has reached control")]
    NoList,
    /// The list is past its end.
    #[error("the connector's allow-list has expired; it opens nothing until control sends a new one")]
    ListExpired,
    /// Control has been silent for too long.
    #[error(
        "the connector has not heard of control for longer than control.max_stale_seconds of its configuration; it opens \
         nothing until control answers it"
    )]
    Stale,
    /// Not on the list, whether it exists or not.
    #[error("the connector's allow-list does not let this caller reach this target")]
    NotAllowed,
    /// No name, no address.
    #[error("the connector cannot resolve the target's name; check its DNS")]
    Unresolved,
    /// The dial guard said no.
    #[error("the target resolves to an address that its rule does not allow; name its network in the resource")]
    Forbidden,
    /// Connection refused or no route.
    #[error("the connector could not connect to the target; check that the application runs")]
    Unreachable,
    /// No answer in time.
    #[error("the target did not answer the connector in time")]
    TimedOut,
    /// Too many streams.
    #[error("the connector carries as many streams as it may; try again later")]
    Busy,
    /// It is about to stop.
    #[error("the connector is stopping; use another one")]
    Draining,
}

impl Refusal {
    /// Stable, `snake_case`; what programs compare.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::NotTrusted => "token_not_trusted",
            Self::WrongKind => "token_wrong_kind",
            Self::WrongCaller => "token_wrong_caller",
            Self::WrongAudience => "token_wrong_audience",
            Self::WrongSession => "token_wrong_session",
            Self::WrongCertificate => "token_wrong_certificate",
            Self::Expired { .. } => "token_expired",
            Self::FromTheFuture { .. } => "token_from_the_future",
            Self::BadLife { .. } => "token_bad_life",
            Self::Spent => "token_spent",
            Self::SpentFull => "token_memory_full",
            Self::NoList => "list_missing",
            Self::ListExpired => "list_expired",
            Self::Stale => "connector_stale",
            Self::NotAllowed => "not_allowed",
            Self::Unresolved => "target_unresolved",
            Self::Forbidden => "target_forbidden",
            Self::Unreachable => "target_unreachable",
            Self::TimedOut => "target_timed_out",
            Self::Busy => "connector_busy",
            Self::Draining => "connector_draining",
        }
    }

    /// Who can do something about it.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::BadFrame
            | Self::NotTrusted
            | Self::WrongKind
            | Self::WrongCaller
            | Self::WrongAudience
            | Self::WrongSession
            | Self::WrongCertificate
            | Self::Expired { .. }
            | Self::FromTheFuture { .. }
            | Self::BadLife { .. }
            | Self::Spent => Fault::Caller,
            Self::NoList | Self::ListExpired | Self::NotAllowed => Fault::List,
            Self::Unresolved | Self::Forbidden | Self::Unreachable | Self::TimedOut => Fault::Target,
            Self::SpentFull | Self::Stale | Self::Busy | Self::Draining => Fault::Connector,
        }
    }

    /// Whether trying again with a fresh token may help without anybody changing anything.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(
            self,
            Self::WrongSession
                | Self::SpentFull
                | Self::NoList
                | Self::Stale
                | Self::Unresolved
                | Self::Unreachable
                | Self::TimedOut
                | Self::Busy
                | Self::Draining
        )
    }
}

impl From<&Refusal> for OpenReply {
    fn from(refusal: &Refusal) -> Self {
        Self::Refused { code: refusal.code().to_owned(), message: refusal.to_string(), retry: refusal.retry() }
    }
}
