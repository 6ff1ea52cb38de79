//! Carrying a worker's messages to a KDC (RFC 4120 §7.2.2, TCP).

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sluice_connector_webproxy::{KeytabKey, Password, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::dial::{self, Resolver};

/// A Kerberos account for the proxy.
#[derive(Clone, Debug)]
pub struct Kerberos {
    /// Account's name, without its realm.
    pub name: String,
    /// Realm, in capitals.
    pub realm: String,
    /// `host` or `host:port` of its KDCs, in the order in which they are tried until one has answered.
    pub kdcs: Vec<(String, u16)>,
    /// Password or key.
    pub secret: KerberosSecret,
    /// Service principal of the proxy; `HTTP/` and the proxy's host when not named.
    pub service: Option<String>,
}

impl Kerberos {
    /// The service principal of the ticket for `proxy`.
    pub(crate) fn service_at(&self, proxy: &Proxy) -> String {
        self.service.clone().unwrap_or_else(|| format!("HTTP/{}", proxy.host))
    }
}

/// How the account proves itself.
#[derive(Clone, Debug)]
pub enum KerberosSecret {
    /// By its password.
    Password(Password),
    /// By a key out of a keytab.
    Key(KeytabKey),
}

/// An account's KDCs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kdcs<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) kerberos: &'a Kerberos,
    /// Which answered last: a login takes three messages, and must not wait for a dead one before each.
    pub(crate) last: &'a AtomicUsize,
}

impl Kdcs<'_> {
    /// Sends `request` (with its length before it) to the first KDC that takes a connection, and to another only when
    /// that one does not answer: each may count a wrong password of its own.
    pub(crate) async fn ask(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let mut left = self.order();
        let failed = Mutex::new(BTreeMap::new());
        let fail = |at: usize, why: String| {
            failed.lock().unwrap_or_else(PoisonError::into_inner).insert(at, why);
        };
        while !left.is_empty() {
            let connecting = dial::first(left.clone(), |at| async move {
                let tcp = self.connect(at).await;
                tcp.map(|tcp| (at, tcp)).map_err(|error| fail(at, error.to_string()))
            });
            let Ok(Ok((at, tcp))) = timeout(KDC_TIME, connecting).await else { break };
            match timeout(KDC_TIME, exchange(tcp, request)).await {
                Ok(Ok(reply)) => {
                    self.last.store(at, Relaxed);
                    return Ok(reply);
                }
                Ok(Err(error)) => fail(at, error.to_string()),
                Err(_) => fail(at, format!("no answer within {} s", KDC_TIME.as_secs())),
            }
            left.retain(|other| *other != at);
        }
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        Err(self.in_words(&failed))
    }

    /// The one that answered last, then the others as they are written.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.kerberos.kdcs.len()).collect();
        let last = self.last.load(Relaxed);
        order.sort_by_key(|at| *at != last);
        order
    }

    async fn connect(&self, at: usize) -> io::Result<TcpStream> {
        let (host, port) = self.kerberos.kdcs.get(at).ok_or(io::ErrorKind::NotFound)?;
        let addresses = self.resolver.resolve(host).await?;
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|at| SocketAddr::new(at, *port)).collect();
        dial::connect(&addresses, Instant::now() + KDC_TIME).await
    }

    fn in_words(&self, failed: &BTreeMap<usize, String>) -> String {
        let silent = format!("no connection within {} s", KDC_TIME.as_secs());
        let whys = self.kerberos.kdcs.iter().enumerate();
        let whys: Vec<String> =
            whys.map(|(at, (host, port))| format!("{host}:{port}: {}", failed.get(&at).unwrap_or(&silent))).collect();
        let realm = &self.kerberos.realm;
        format!("no KDC of {realm} answers; check web_proxy.kerberos.kdc and the firewall: {}", whys.join("; "))
    }
}

async fn exchange(mut tcp: TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    tcp.write_all(request).await?;
    let mut header = [0; 4];
    tcp.read_exact(&mut header).await?;
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_REPLY {
        return Err(io::Error::other("its answer is too long; is it a KDC?"));
    }
    let mut reply = header.to_vec();
    reply.resize(length.saturating_add(header.len()), 0);
    let (_, body) = reply.split_at_mut(header.len());
    tcp.read_exact(body).await?;
    Ok(reply)
}

/// What all KDCs together may take to connect, and one to answer.
const KDC_TIME: Duration = Duration::from_secs(3);
/// Longest answer of a KDC, bytes.
const MAX_REPLY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use std::sync::{Arc, atomic::Ordering::SeqCst};

    use tokio::net::TcpListener;

    use super::*;

    /// Takes connections and counts them; answers with `answer`, or not at all.
    async fn kdc(answer: Option<&'static [u8]>) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut tcp, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                if let Some(answer) = answer {
                    tcp.write_all(answer).await.unwrap();
                }
                held.push(tcp);
            }
        });
        (port, asked)
    }

    #[tokio::test]
    async fn c3_a_kdc_that_does_not_answer_is_waited_for_once_and_not_for_each_message() {
        let (silent, asked) = kdc(None).await;
        let (good, _) = kdc(Some(&[0, 0, 0, 2, b'o', b'k'])).await;
        let kerberos = Kerberos {
            name: "svc".into(),
            realm: "CORP.TEST".into(),
            kdcs: vec![("127.0.0.1".into(), silent), ("127.0.0.1".into(), good)],
            secret: KerberosSecret::Password(Password::new("x")),
            service: None,
        };
        let (resolver, last) = (Resolver::default(), AtomicUsize::new(0));
        let kdcs = Kdcs { resolver: &resolver, kerberos: &kerberos, last: &last };
        for _ in 0..3 {
            assert_eq!(kdcs.ask(&[0, 0, 0, 1, 7]).await.unwrap(), [0, 0, 0, 2, b'o', b'k']);
        }
        assert_eq!(asked.load(SeqCst), 1);
    }
}
