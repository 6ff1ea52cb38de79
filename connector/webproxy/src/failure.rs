//! Everything that can go wrong between us and the far side of a proxy, in words, with what to do.

use std::{fmt, time::Duration};

use thiserror::Error;

use crate::{
    place::{Proxy, Target},
    reply::ReplyError,
};

/// How a proxy is answered, the strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// RFC 7617.
    Basic,
    /// RFC 7616.
    Digest,
    /// MS-NLMP over HTTP, version 2 only.
    Ntlm,
    /// Kerberos in SPNEGO (RFC 4559).
    Negotiate,
}

impl Scheme {
    /// By its name in a challenge (lower case).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Basic, Self::Digest, Self::Ntlm, Self::Negotiate]
            .into_iter()
            .find(|scheme| scheme.to_string().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic => "Basic",
            Self::Digest => "Digest",
            Self::Ntlm => "NTLM",
            Self::Negotiate => "Negotiate",
        })
    }
}

/// Why the proxy did not let us through.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    /// 407 and nothing to answer it with.
    #[error(
        "the web proxy {proxy} wants a login ({offered}); name one: web_proxy.user and web_proxy.password_file, or [web_proxy.kerberos]"
    )]
    NeedsLogin {
        /// Which proxy.
        proxy: Proxy,
        /// Schemes it offers.
        offered: String,
    },
    /// 407, and none of the schemes offered is one that we may use.
    #[error("the web proxy {proxy} offers {offered}, and none of these can be answered: {advice}")]
    NoCommonScheme {
        /// Which proxy.
        proxy: Proxy,
        /// Schemes it offers.
        offered: String,
        /// What to change.
        advice: String,
    },
    /// 407 that is not understood.
    #[error("the web proxy {proxy} wants a login but says not which: {why}; tell its administrator")]
    BadChallenge {
        /// Which proxy.
        proxy: Proxy,
        /// What is wrong with it.
        why: String,
    },
    /// The proxy refused what we showed.
    #[error(
        "the web proxy {proxy} refuses the {scheme} login of {account}: wrong password, or the account is locked or not permitted to use the proxy; check web_proxy.user and web_proxy.password_file"
    )]
    WrongLogin {
        /// Which proxy.
        proxy: Proxy,
        /// How we answered.
        scheme: Scheme,
        /// As whom.
        account: String,
    },
    /// The proxy refused a Kerberos ticket that the KDC gave us for it.
    #[error(
        "the web proxy {proxy} refuses our Kerberos ticket for {service}: check that its keytab holds that name's newest key, that the clocks agree, and that the account may use the proxy"
    )]
    TicketRefused {
        /// Which proxy.
        proxy: Proxy,
        /// Service principal.
        service: String,
    },
    /// No token could be made.
    #[error("no {scheme} login for the web proxy {proxy}: {why}")]
    NoToken {
        /// Which proxy.
        proxy: Proxy,
        /// Which scheme.
        scheme: Scheme,
        /// What went wrong, with what to do.
        why: String,
    },
    /// The connection ended between two messages that must go over one.
    #[error(
        "the web proxy {proxy} hung up in the middle of the {scheme} login; something before it must keep connections open (a load balancer without affinity?)"
    )]
    ClosedMidway {
        /// Which proxy.
        proxy: Proxy,
        /// Which scheme.
        scheme: Scheme,
    },
    /// Challenges without end.
    #[error(
        "the web proxy {proxy} asked for a login {rounds} times in a row; its configuration contradicts itself, tell its administrator"
    )]
    Endless {
        /// Which proxy.
        proxy: Proxy,
        /// How often.
        rounds: u32,
    },
    /// 403, 451.
    #[error(
        "the web proxy {proxy} forbids {target} by policy ({status} {reason}); ask its administrator to allow CONNECT to {target}"
    )]
    Forbidden {
        /// Which proxy.
        proxy: Proxy,
        /// What was asked for.
        target: Target,
        /// Status.
        status: u16,
        /// In the proxy's words.
        reason: String,
    },
    /// 502, 503, 504.
    #[error(
        "the web proxy {proxy} cannot reach {target} itself ({status} {reason}); check its DNS and firewall for this host"
    )]
    Unreachable {
        /// Which proxy.
        proxy: Proxy,
        /// What was asked for.
        target: Target,
        /// Status.
        status: u16,
        /// In the proxy's words.
        reason: String,
    },
    /// 400, 404, 405, 501.
    #[error(
        "{proxy} answers CONNECT with {status} {reason}; this looks like a web server, not a proxy: check web_proxy.url"
    )]
    NoProxy {
        /// Which proxy.
        proxy: Proxy,
        /// Status.
        status: u16,
        /// In its words.
        reason: String,
    },
    /// 3xx, 511.
    #[error(
        "the web proxy {proxy} sends us to a page ({status} {reason}); a sign-in portal stands before it, which a service cannot use: have this machine exempted"
    )]
    Portal {
        /// Which proxy.
        proxy: Proxy,
        /// Status.
        status: u16,
        /// In the proxy's words.
        reason: String,
    },
    /// Any other status.
    #[error("the web proxy {proxy} refuses {target} ({status} {reason})")]
    Refused {
        /// Which proxy.
        proxy: Proxy,
        /// What was asked for.
        target: Target,
        /// Status.
        status: u16,
        /// In the proxy's words.
        reason: String,
    },
    /// The answer itself.
    #[error("the web proxy {proxy} gave no usable answer: {error}")]
    BadReply {
        /// Which proxy.
        proxy: Proxy,
        /// What is wrong with it.
        error: ReplyError,
    },
    /// Connected, asked, and then silence.
    #[error("the web proxy {proxy} took our connection and did not answer within {} s; it is overloaded, or what listens there is no proxy", after.as_secs())]
    Silent {
        /// Which proxy.
        proxy: Proxy,
        /// How long we waited.
        after: Duration,
    },
    /// The proxy's name.
    #[error("the web proxy's name {} cannot be resolved; check web_proxy.url and this machine's DNS", proxy.host)]
    Unresolved {
        /// Which proxy.
        proxy: Proxy,
    },
    /// The dial guard: a script from the network must not lead us to this machine or its cloud.
    #[error("the PAC script names the web proxy {proxy}, which may not be dialled: {why} (gateway_networks)")]
    NotPermitted {
        /// Which proxy.
        proxy: Proxy,
        /// What the guard says.
        why: String,
    },
    /// TCP to the proxy.
    #[error("cannot connect to the web proxy {proxy}: {why}")]
    NotConnected {
        /// Which proxy.
        proxy: Proxy,
        /// What the system said.
        why: String,
    },
    /// TLS to the proxy.
    #[error(
        "no TLS with the web proxy {proxy}: {why}; if its certificate comes from your own authority, name that in web_proxy.ca_file"
    )]
    ProxyTls {
        /// Which proxy.
        proxy: Proxy,
        /// What is wrong.
        why: String,
    },
    /// TLS through the proxy ended at the proxy.
    #[error("the web proxy {proxy} breaks TLS open: it shows a certificate of its own for {}, not one from the node root; have {} exempted from TLS inspection", target.host(), target.host())]
    Intercepted {
        /// Which proxy.
        proxy: Proxy,
        /// Whose certificate was expected.
        target: Target,
    },
}

impl Failure {
    /// Whether showing the same login again could lock the account.
    #[must_use]
    pub const fn is_of_the_login(&self) -> bool {
        matches!(self, Self::WrongLogin { .. } | Self::Endless { .. })
    }

    /// Whether another proxy, or the direct way, may be tried for the same target: the proxy itself did not work. A
    /// refusal is an answer; going around it would be evasion.
    #[must_use]
    pub const fn is_the_proxys(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. }
                | Self::NotPermitted { .. }
                | Self::NotConnected { .. }
                | Self::ProxyTls { .. }
                | Self::Silent { .. }
                | Self::BadReply { .. }
        )
    }
}
