//! Through one proxy to one target: connect, TLS where the proxy wants it, and the 407 loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use sluice_connector_webproxy::{
    Action, Credentials, Failure, Handshake, Memory, Proxy, Reply, ReplyError, ReplyReader, Scheme, Target,
};
use sluice_node_reach::{DialGuard, NotPermitted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use crate::{
    connected::Io,
    dial::{self, Resolver},
    login::Logins,
};

/// What is needed to go through a proxy.
pub(crate) struct Passage<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) target: &'a Target,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) logins: Option<&'a Logins>,
    pub(crate) resolver: &'a Resolver,
    pub(crate) tls: &'a Arc<ClientConfig>,
    /// Stands before a proxy that a script from the network names.
    pub(crate) guard: Option<&'a DialGuard>,
    pub(crate) deadline: Instant,
}

impl Passage<'_> {
    /// Opens a tunnel; also says how the proxy was satisfied, and what to remember about it.
    pub(crate) async fn open(&self, memory: Memory) -> Result<(Io, Option<Scheme>, Memory), Failure> {
        let abilities = self.logins.map(Logins::abilities).unwrap_or_default();
        let credentials = self.credentials.cloned();
        let mut handshake = Handshake::new(self.proxy.clone(), self.target.clone(), credentials, abilities, memory);
        if let Some(service) = self.logins.and_then(|logins| logins.service_at(self.proxy)) {
            handshake = handshake.with_service(service);
        }
        let mut io = self.connect().await?;
        let mut action = handshake.start(random());
        loop {
            action = match action {
                Action::Open(scheme) => return Ok((io, scheme, handshake.memory())),
                Action::Token { scheme, challenge } => {
                    let made = match self.logins {
                        Some(logins) => {
                            let token = logins.token(scheme, challenge, self.proxy, self.credentials);
                            timeout_at(self.deadline, token).await.map_err(|_| self.no_token_in_time(scheme))?
                        }
                        None => Err("no login may be shown there".to_owned()),
                    };
                    handshake.token(made)?
                }
                Action::Send { head, reconnect } => {
                    if reconnect {
                        io = self.connect().await?;
                    }
                    match self.exchange(&mut io, &head).await? {
                        Some(reply) => handshake.replied(&reply, random())?,
                        None => handshake.closed(random())?,
                    }
                }
            };
        }
    }

    /// A connection to the proxy, with TLS where it wants it.
    async fn connect(&self) -> Result<Io, Failure> {
        let proxy = || self.proxy.clone();
        let failed = |why: String| Failure::NotConnected { proxy: proxy(), why };
        let found = timeout_at(self.deadline, self.resolver.resolve(&self.proxy.host)).await;
        let Ok(Ok(addresses)) = found else { return Err(Failure::Unresolved { proxy: proxy() }) };
        let addresses: Vec<SocketAddr> = match self.guard {
            None => addresses.into_iter().map(|at| SocketAddr::new(at, self.proxy.port)).collect(),
            Some(guard) => {
                let permitted = guard.permit(&addresses, self.proxy.port);
                let refused = |why: NotPermitted| Failure::NotPermitted { proxy: proxy(), why: why.to_string() };
                permitted.map_err(refused)?.addresses().to_vec()
            }
        };
        let tcp = dial::connect(&addresses, self.deadline).await.map_err(|error| failed(in_words(&error)))?;
        if !self.proxy.tls {
            return Ok(Io::Tcp(tcp));
        }
        let name = ServerName::try_from(self.proxy.host.clone()).map_err(|error| failed(error.to_string()))?;
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, tcp);
        match timeout_at(self.deadline, handshake).await {
            Ok(Ok(tls)) => Ok(Io::Tls(Box::new(tls))),
            Ok(Err(error)) => Err(Failure::ProxyTls { proxy: proxy(), why: error.to_string() }),
            Err(_) => Err(Failure::ProxyTls { proxy: proxy(), why: "it does not answer".to_owned() }),
        }
    }

    /// Not the proxy's fault: nothing was said to it yet.
    fn no_token_in_time(&self, scheme: Scheme) -> Failure {
        let why = "it was not made in time; check that the KDCs (web_proxy.kerberos.kdc) answer".to_owned();
        Failure::NoToken { proxy: self.proxy.clone(), scheme, why }
    }

    /// One request and its reply; `None` when the proxy hung up without a word.
    async fn exchange(&self, io: &mut Io, head: &[u8]) -> Result<Option<Reply>, Failure> {
        let began = Instant::now();
        let bad = |error| Failure::BadReply { proxy: self.proxy.clone(), error };
        match timeout_at(self.deadline, converse(io, head)).await {
            Ok(Ok(reply)) => reply.transpose().map_err(bad),
            // Reset while we were writing or reading: as good as closed.
            Ok(Err(_)) => Ok(None),
            Err(_) => {
                let after = Duration::from_secs(began.elapsed().as_secs().max(1));
                Err(Failure::Silent { proxy: self.proxy.clone(), after })
            }
        }
    }
}

async fn converse(io: &mut Io, head: &[u8]) -> io::Result<Option<Result<Reply, ReplyError>>> {
    io.write_all(head).await?;
    io.flush().await?;
    let mut reader = ReplyReader::default();
    let mut buffer = vec![0; 8 * 1024];
    let mut silent = true;
    loop {
        let length = match io.read(&mut buffer).await {
            Ok(length) => length,
            Err(error) if silent => return Err(error),
            // A close without TLS's goodbye is a close.
            Err(_) => 0,
        };
        if length == 0 {
            return Ok(if silent { None } else { Some(reader.end()) });
        }
        silent = false;
        match reader.feed(buffer.get(..length).unwrap_or_default()) {
            Ok(None) => {}
            Ok(Some(reply)) => return Ok(Some(Ok(reply))),
            Err(error) => return Ok(Some(Err(error))),
        }
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "it does not answer; check address, port and the firewall between".to_owned(),
        io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused); check the port".to_owned(),
        _ => error.to_string(),
    }
}

/// Sixteen bytes that nobody can guess. A system without randomness gives zeros, and Digest still works with those.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::warn!("the system has no randomness");
    }
    bytes
}
