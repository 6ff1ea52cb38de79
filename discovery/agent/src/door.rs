//! The doors: HTTPS for check-ins, HTTP for discovery. Bounded in all, and per client address.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::{
    certificate,
    http::{self, Visit},
    lan::{Desk, now},
    report::Reports,
    seats::Seats,
};

/// Connections at a time, per listening socket: of admitted devices, and of others; and per client address.
const MAX_CONNECTIONS: usize = 128;
const MAX_PER_ADDRESS: usize = 8;
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Pause after control did not give a certificate.
const RETRY: Duration = Duration::from_secs(5);

/// The door's TLS, once there is a certificate.
pub(crate) type Tls = ArcSwapOption<ServerConfig>;

/// What connections have in common.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) desk: Arc<Desk>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) tls: Arc<Tls>,
}

impl House {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        let (reports, tls) = (Arc::default(), Arc::default());
        Self { desk, reports, tls }
    }

    /// Accepts for ever. `is_tls` says which door this is.
    pub(crate) async fn run(self, listener: std::net::TcpListener, is_tls: bool) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(listener).context("listener")?;
        let seats = Seats::new(MAX_CONNECTIONS, MAX_PER_ADDRESS);
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                // Out of descriptors, or a connection that is gone already.
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(seat) = seats.take(from.ip(), self.desk.is_admitted(from.ip())) else { continue };
            let house = self.clone();
            tokio::spawn(async move {
                let _seat = seat;
                if is_tls {
                    house.tls_visit(stream, from.ip()).await
                } else {
                    house.plain_visit(stream, from.ip()).await
                }
            });
        }
    }

    async fn plain_visit(self, stream: TcpStream, from: IpAddr) {
        let visit = Visit { desk: self.desk, reports: self.reports, from, caller: None, is_tls: false };
        http::serve(stream, visit).await;
    }

    async fn tls_visit(self, stream: TcpStream, from: IpAddr) {
        let Some(tls) = self.tls.load_full() else { return };
        let stream = match timeout(HANDSHAKE_TIME, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(%from, %error, "TLS handshake"),
            Err(_) => return debug!(%from, "TLS handshake took too long"),
        };
        let (domain, tenant) = self.desk.control().owner();
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let caller = match leaf.map(|leaf| certificate::caller(leaf, &domain, &tenant)).transpose() {
            Ok(caller) => caller,
            Err(error) => return warn!(%from, %error, "a certificate of the hub root that names no hub"),
        };
        let visit = Visit { desk: self.desk, reports: self.reports, from, caller, is_tls: true };
        http::serve(stream, visit).await;
    }

    /// Keeps the door's certificate fresh, for ever.
    pub(crate) async fn keep_certificate(self) {
        let mut names = self.desk.door_name.subscribe();
        loop {
            let Some(host) = names.borrow_and_update().clone() else {
                if names.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let pause = match self.fetch(&host).await {
                Ok(door) => {
                    info!(%host, "the check-in door has its certificate");
                    self.tls.store(Some(door.tls));
                    door.renew_in
                }
                Err(error) => {
                    warn!("no certificate for the check-in door yet: {error:#}");
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = names.changed() => {}
            }
        }
    }

    async fn fetch(&self, host: &str) -> anyhow::Result<certificate::Door> {
        let (key, csr) = certificate::request(host)?;
        let chain = self.desk.control().hub_facing(csr).await?;
        certificate::door(&key, &chain, now())
    }
}
