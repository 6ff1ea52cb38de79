//! Which way, and then that way.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnetwork::IpNetwork;
use rustls::{CertificateError, ClientConfig};
use sluice_connector_webproxy::{
    Choice, Credentials, Dead, Failure, Memory, Proxy, Refused, Settings, Target, TargetError, Way, Why,
};
use sluice_node_reach::{DialGuard, NotPermitted};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::{
    connected::{Connected, Io},
    dial::{self, Resolver},
    kdc::Kerberos,
    login::{self, Logins},
    script::{PacSource, Script},
    through::Passage,
    tls::Trust,
    worker::{Staff, Workers},
};

/// Everything the way out depends on.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Which way, and where credentials may be shown.
    pub rules: Settings,
    /// A name and password for proxies.
    pub credentials: Option<Credentials>,
    /// A Kerberos account for proxies.
    pub kerberos: Option<Kerberos>,
    /// The script, when `rules` say to ask one.
    pub pac: Option<PacSource>,
    /// Whom to believe at `https://` proxies and URLs.
    pub trust: Trust,
    /// Networks that [`Guard::Gateways`] lets pass besides public addresses, and a fetched script's proxies besides
    /// public and private ones.
    pub gateway_networks: Vec<IpNetwork>,
    /// What NTLM and Kerberos call this machine.
    pub workstation: String,
}

/// Who says that the target may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The dial guard: the target comes from a document.
    Gateways,
    /// The operator, who named it in this machine's own configuration.
    Operator,
}

/// Why nothing leads to the target.
#[derive(Clone, Debug, Error)]
pub enum EgressError {
    /// It cannot even be asked for.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The dial guard.
    #[error("{target} may not be dialled: {why} (gateway_networks)")]
    NotPermitted {
        /// What was asked for.
        target: Target,
        /// What the guard says.
        why: NotPermitted,
    },
    /// Directly: the name.
    #[error("cannot resolve {}: {why}; check this machine's DNS, or name a web proxy in [web_proxy] if the site has one", target.host())]
    Unresolved {
        /// What was asked for.
        target: Target,
        /// What the resolver says.
        why: String,
    },
    /// Directly: TCP.
    #[error(
        "cannot connect to {target} directly: {why}; open outbound TCP to it, or name the site's web proxy in [web_proxy]"
    )]
    NotConnected {
        /// What was asked for.
        target: Target,
        /// What the system says.
        why: String,
    },
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] Failure),
    /// The proxy refused the login a while ago.
    #[error("{failure}; {}", login::not_again(*left))]
    NotAgain {
        /// What it said then.
        failure: Failure,
        /// How long the login is not shown to it.
        left: Duration,
    },
    /// The script.
    #[error("{0}; check web_proxy.pac_url or web_proxy.pac_file")]
    Script(String),
}

/// Which way would be taken, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// In the order in which they would be tried.
    pub ways: Vec<Way>,
    /// Why these.
    pub why: Why,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways: Vec<String> = self.ways.iter().map(ToString::to_string).collect();
        write!(f, "{}, because of {}", ways.join(", then "), self.why)
    }
}

/// The way out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Egress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Settings,
    credentials: Option<Credentials>,
    guard: DialGuard,
    /// Before proxies that a fetched script names.
    proxy_guard: Option<DialGuard>,
    resolver: Resolver,
    tls: Arc<ClientConfig>,
    logins: Logins,
    script: Option<Script>,
    known: Mutex<Known>,
    /// Whose turn it is to find out whether a proxy takes the login: many at once would lock the account.
    turn: tokio::sync::Mutex<()>,
    began: Instant,
}

/// What was learned about proxies.
#[derive(Debug, Default)]
struct Known {
    dead: Dead,
    memory: BTreeMap<Proxy, Memory>,
    refused: Refused<Proxy, Failure>,
}

impl Egress {
    /// Prepares it. `workers` are needed for PAC scripts and Kerberos.
    ///
    /// # Errors
    /// When the trust cannot be read, or workers are needed and there are none.
    pub fn new(setup: Setup, workers: Option<Arc<dyn Workers>>) -> anyhow::Result<Self> {
        let Setup { rules, credentials, kerberos, pac, trust, gateway_networks, workstation } = setup;
        let (resolver, tls) = (Resolver::default(), trust.client()?);
        let proxy_guard = match &pac {
            Some(PacSource::Url { .. }) => Some(DialGuard::new(everywhere()?.chain(gateway_networks.iter().copied()))),
            // The operator's own.
            Some(PacSource::Text(_)) | None => None,
        };
        let workers = workers.map(Staff::new);
        let script = match (pac, &workers) {
            (Some(source), Some(workers)) => Some(Script::new(source, workers.clone(), resolver.clone(), tls.clone())?),
            (Some(_), None) => anyhow::bail!("a PAC script needs worker processes"),
            (None, _) => None,
        };
        anyhow::ensure!(kerberos.is_none() || workers.is_some(), "Kerberos needs worker processes");
        let logins = Logins::new(workers, resolver.clone(), kerberos, workstation);
        let guard = DialGuard::new(gateway_networks);
        let (known, turn, began) = (Mutex::default(), tokio::sync::Mutex::default(), Instant::now());
        Ok(Self(Arc::new(Inner {
            rules,
            credentials,
            guard,
            proxy_guard,
            resolver,
            tls,
            logins,
            script,
            known,
            turn,
            began,
        })))
    }

    /// A connection to `host` (a name or an address, without brackets) and `port` before `deadline`.
    ///
    /// # Errors
    /// [`EgressError`] of the last way tried; a proxy that refuses is not gone around.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        guard: Guard,
        deadline: Instant,
    ) -> Result<Connected, EgressError> {
        let inner = &*self.0;
        let target = Target::new(host, port)?;
        let late = |_| EgressError::Script("the PAC script was not fetched and evaluated in time".to_owned());
        let ways = timeout_at(deadline, inner.ways(&target)).await.map_err(late)??.ways;
        let ways = inner.known().dead.order(&ways, inner.began.elapsed());
        let mut left = u32::try_from(ways.len()).unwrap_or(u32::MAX);
        let mut last = EgressError::Script("the PAC script names no way".to_owned());
        for way in ways {
            // Each way gets its share, so that a dead proxy leaves time for the next.
            let now = Instant::now();
            let share = now + deadline.saturating_duration_since(now) / left.max(1);
            left = left.saturating_sub(1);
            let tried = match &way {
                Way::Direct => inner.direct(&target, guard, share).await,
                Way::Proxy(proxy) => inner.through(proxy, &target, guard, share).await,
            };
            match tried {
                Ok(io) => return Ok(Connected { io, via: way }),
                Err(EgressError::Proxy(failure)) if !failure.is_the_proxys() => return Err(failure.into()),
                Err(error @ EgressError::NotAgain { .. }) => return Err(error),
                Err(error) => {
                    tracing::info!(%target, "{way}: {error}");
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Which way [`Self::connect`] would take, and why.
    ///
    /// # Errors
    /// [`EgressError`] when the target or the script is of no use.
    pub async fn explain(&self, host: &str, port: u16) -> Result<Explanation, EgressError> {
        self.0.ways(&Target::new(host, port)?).await
    }

    /// What to say when TLS with the target failed on a connection that took `via`: a certificate that is not the
    /// target's is most likely the proxy's own.
    #[must_use]
    pub fn interception(via: &Way, host: &str, port: u16, error: &io::Error) -> Option<Failure> {
        let Way::Proxy(proxy) = via else { return None };
        // Control and gateways speak TLS 1.3 and show certificates of the node root.
        let strangers = match error.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(why) => {
                matches!(why, CertificateError::UnknownIssuer | CertificateError::BadSignature)
            }
            rustls::Error::PeerIncompatible(_) => true,
            _ => false,
        };
        let target = Target::new(host, port).ok().filter(|_| strangers)?;
        Some(Failure::Intercepted { proxy: proxy.clone(), target })
    }
}

impl Inner {
    async fn ways(&self, target: &Target) -> Result<Explanation, EgressError> {
        match self.rules.choose(target) {
            Choice::Ways(ways, why) => Ok(Explanation { ways, why }),
            Choice::AskScript => {
                let script = self.script.as_ref().ok_or_else(|| EgressError::Script("no PAC script".to_owned()))?;
                let (ways, text) = script.ways(target).await.map_err(EgressError::Script)?;
                Ok(Explanation { ways, why: Why::Script(text) })
            }
        }
    }

    async fn direct(&self, target: &Target, guard: Guard, deadline: Instant) -> Result<Io, EgressError> {
        let failed = |error: io::Error| EgressError::Unresolved { target: target.clone(), why: error.to_string() };
        let found = timeout_at(deadline, self.resolver.resolve(target.host())).await;
        let addresses = found.map_err(io::Error::from).and_then(|found| found).map_err(failed)?;
        let addresses: Vec<SocketAddr> = match guard {
            Guard::Operator => addresses.into_iter().map(|at| SocketAddr::new(at, target.port())).collect(),
            Guard::Gateways => {
                let permitted = self.guard.permit(&addresses, target.port());
                let refused = |why| EgressError::NotPermitted { target: target.clone(), why };
                permitted.map_err(refused)?.addresses().to_vec()
            }
        };
        let tcp = dial::connect(&addresses, deadline).await;
        tcp.map(Io::Tcp).map_err(|error| EgressError::NotConnected { target: target.clone(), why: error.to_string() })
    }

    async fn through(
        &self,
        proxy: &Proxy,
        target: &Target,
        guard: Guard,
        deadline: Instant,
    ) -> Result<Io, EgressError> {
        // A name is the proxy's to resolve; an address can be judged here.
        if let (Guard::Gateways, Some(address)) = (guard, target.address()) {
            let judged = self.guard.permit(&[address], target.port());
            judged.map_err(|why| EgressError::NotPermitted { target: target.clone(), why })?;
        }
        let may_log_in = self.rules.may_log_in_at(proxy);
        let shows_login = may_log_in && (self.credentials.is_some() || self.logins.abilities().kerberos);
        let _turn = if shows_login { self.turn_at(proxy, deadline).await? } else { None };
        let passage = Passage {
            proxy,
            target,
            credentials: self.credentials.as_ref().filter(|_| may_log_in),
            logins: may_log_in.then_some(&self.logins),
            resolver: &self.resolver,
            tls: &self.tls,
            guard: self.proxy_guard.as_ref(),
            deadline,
        };
        let memory = self.known().memory.get(proxy).cloned().unwrap_or_default();
        let opened = passage.open(memory).await;
        let mut known = self.known();
        match opened {
            Ok((io, scheme, memory)) => {
                known.dead.revive(proxy);
                if scheme.is_some() {
                    known.refused.forget(proxy);
                }
                if known.memory.len() < MAX_KNOWN || known.memory.contains_key(proxy) {
                    known.memory.insert(proxy.clone(), memory);
                }
                let login = scheme.map_or_else(|| "none".to_owned(), |scheme| scheme.to_string());
                tracing::debug!(%proxy, %target, %login, "the web proxy opened a tunnel");
                Ok(io)
            }
            Err(failure) => {
                known.memory.remove(proxy);
                if failure.is_the_proxys() {
                    known.dead.bury(proxy, self.began.elapsed());
                }
                if shows_login && failure.is_of_the_login() {
                    known.refused.note(proxy.clone(), failure.clone(), self.began.elapsed());
                }
                Err(failure.into())
            }
        }
    }

    /// Leave to show the login to `proxy`: alone, until it has been taken once.
    async fn turn_at(
        &self,
        proxy: &Proxy,
        deadline: Instant,
    ) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, EgressError> {
        let proved = self.known().memory.contains_key(proxy);
        let turn = if proved {
            None
        } else {
            timeout_at(deadline, self.turn.lock()).await.map(Some).map_err(|_| {
                let why = "the connections that began before this one still wait for it".to_owned();
                Failure::NotConnected { proxy: proxy.clone(), why }
            })?
        };
        match self.known().refused.standing(proxy, self.began.elapsed()) {
            Some((failure, left)) => Err(EgressError::NotAgain { failure, left }),
            None => Ok(turn),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every network: enough for private addresses, and for no others that must be named (the guard wants those by
/// themselves).
fn everywhere() -> anyhow::Result<impl Iterator<Item = IpNetwork>> {
    Ok([IpNetwork::from_str("0.0.0.0/0")?, IpNetwork::from_str("::/0")?].into_iter())
}

/// Most proxies about which something is remembered.
const MAX_KNOWN: usize = 64;
