//! What the agent knows of the LAN at this moment, and the orders that follow when it changes.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use sluice_discovery_rules::{
    EdgeDocument, Mac, dhcp, discovery_hint,
    dns::{Carrier, Verdict, Zone},
    staging::{CheckedIn, Refused, Staging},
};
use sluice_node_identity::{Fingerprint, HubId, UnixTime};
use tokio::sync::watch;
use tracing::info;

use crate::{Control, Lan, neighbour::Neighbours, orders::Orders};

/// The rules' tables behind one lock; nothing waits while holding it.
pub(crate) struct Desk {
    tables: Mutex<Tables>,
    orders: Orders,
    lan: Lan,
    index: u32,
    neighbours: Neighbours,
    control: Arc<dyn Control>,
    /// The wall clock when the agent was made, and when that was.
    began: (UnixTime, Instant),
    /// The check-in host; the door's certificate follows it.
    pub(crate) door_name: watch::Sender<Option<String>>,
}

struct Tables {
    dhcp: Option<dhcp::Server>,
    staging: Staging,
    document: Option<Arc<EdgeDocument>>,
    zone: Zone,
}

impl Desk {
    pub(crate) fn new(lan: Lan, index: u32, neighbours: Neighbours, orders: Orders, control: Arc<dyn Control>) -> Self {
        let tables = Tables {
            dhcp: lan.scope.clone().map(dhcp::Server::new),
            staging: Staging::default(),
            document: None,
            zone: zone(&lan, None),
        };
        let door_name = watch::Sender::new(None);
        let began = (now(), Instant::now());
        Self { tables: Mutex::new(tables), orders, lan, index, neighbours, control, began, door_name }
    }

    /// What leases and admissions are measured by: it does not jump when the wall clock is set.
    fn clock(&self) -> UnixTime {
        let (start, began) = self.began;
        start.plus(began.elapsed().as_secs())
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One DHCP packet; the answer to send.
    pub(crate) fn dhcp(&self, packet: &[u8]) -> anyhow::Result<Option<dhcp::Reply>> {
        let mut tables = self.lock();
        let now = self.clock();
        let document = tables.document.clone();
        let Some(server) = &mut tables.dhcp else { return Ok(None) };
        let outcome = server.handle(packet, document.as_deref(), now);
        match &outcome.seen {
            Ok(dhcp::Seen { mac, class, bound: Some(address) }) => {
                info!(%mac, class = class.as_deref().unwrap_or("-"), %address, "leased");
            }
            Ok(_) => {}
            Err(fault) => tracing::debug!(%fault, "DHCP packet dropped"),
        }
        self.ended(&mut tables, outcome.ended)?;
        if let Ok(dhcp::Seen { mac, bound: Some(address), .. }) = outcome.seen {
            self.orders.apply(tables.staging.observe(mac, address.into(), now))?;
        }
        Ok(outcome.reply)
    }

    /// Ends leases and admissions whose time is over, and follows admitted devices to their new addresses.
    pub(crate) fn tick(&self) -> anyhow::Result<()> {
        let mut tables = self.lock();
        let now = self.clock();
        let ended = tables.dhcp.as_mut().map(|server| server.expire(now)).unwrap_or_default();
        self.ended(&mut tables, ended)?;
        self.orders.apply(tables.staging.tick(now))?;
        let is_empty = tables.staging.is_empty();
        drop(tables);
        if is_empty { Ok(()) } else { self.follow() }
    }

    /// The kernel is asked before the lock is taken.
    fn follow(&self) -> anyhow::Result<()> {
        let found = self.neighbours.routed_v6(self.index);
        let mut tables = self.lock();
        let now = self.clock();
        found.into_iter().try_for_each(|(mac, address)| self.orders.apply(tables.staging.observe(mac, address, now)))
    }

    fn ended(&self, tables: &mut Tables, ended: Vec<dhcp::Ended>) -> anyhow::Result<()> {
        ended
            .into_iter()
            .try_for_each(|lease| self.orders.apply(tables.staging.lease_ended(lease.mac, IpAddr::V4(lease.address))))
    }

    /// Whether a device that has left staging has this address.
    pub(crate) fn is_admitted(&self, source: IpAddr) -> bool {
        self.lock().staging.device_at(source).is_some()
    }

    /// One DNS question.
    pub(crate) fn dns(&self, message: &[u8], source: IpAddr, carrier: Carrier) -> Verdict {
        let tables = self.lock();
        let admitted = tables.staging.device_at(source).is_some();
        tables.zone.judge(message, source, admitted, carrier)
    }

    /// One check-in with a verified certificate. The orders are queued, not yet carried out.
    pub(crate) fn check_in(
        &self,
        hub: &HubId,
        key: Fingerprint,
        address: IpAddr,
    ) -> anyhow::Result<Result<Mac, Refused>> {
        let neighbour = self.neighbours.owner(self.index, address);
        let mut tables = self.lock();
        let now = self.clock();
        // Asked under the lock: a revocation is either seen here, or its review finds the hub admitted.
        let standing = self.control.standing(hub);
        let stale = self.control.is_stale();
        let lease = match address {
            IpAddr::V4(address) => tables.lease(address, now),
            IpAddr::V6(_) => None,
        };
        let seen = CheckedIn { hub: hub.clone(), key, address, neighbour, lease };
        let (verdict, actions) = tables.staging.check_in(&seen, standing.as_ref(), stale, now);
        self.orders.apply(actions)?;
        match verdict {
            Ok(mac) => {
                info!(%hub, %mac, %address, "checked in");
                if let Some(leased) = tables.address_of(mac, now) {
                    self.orders.apply(tables.staging.observe(mac, leased.into(), now))?;
                }
                drop(tables);
                self.follow()?;
            }
            Err(reason) => info!(%hub, %address, %reason, "check-in refused"),
        }
        Ok(verdict)
    }

    /// Waits until the kernel has what was ordered so far.
    pub(crate) async fn settled(&self) -> anyhow::Result<()> {
        self.orders.done().await
    }

    /// Stages whoever is no longer in good standing.
    pub(crate) fn review(&self) -> anyhow::Result<()> {
        let mut tables = self.lock();
        self.orders.apply(tables.staging.review(|hub| self.control.standing(hub)))
    }

    /// Puts a checked document in force, the kernel's part first.
    pub(crate) async fn document(&self, document: Arc<EdgeDocument>) -> anyhow::Result<Result<(), String>> {
        if let Err(reason) = document.check() {
            return Ok(Err(reason.to_string()));
        }
        if let Err(reason) = self.orders.document(document.clone()).await? {
            return Ok(Err(reason));
        }
        let name = document.service.checkin_host.clone();
        let mut tables = self.lock();
        tables.zone = zone(&self.lan, Some(&document));
        tables.document = Some(document);
        drop(tables);
        self.door_name.send_if_modified(|known| {
            let changed = known.as_deref() != Some(name.as_str());
            *known = Some(name);
            changed
        });
        Ok(Ok(()))
    }

    /// The discovery document; none before the first configuration.
    pub(crate) fn hint(&self) -> Option<String> {
        self.lock().document.as_deref().map(discovery_hint)
    }

    pub(crate) fn control(&self) -> &Arc<dyn Control> {
        &self.control
    }

    pub(crate) const fn resolver(&self) -> Option<std::net::SocketAddr> {
        self.lan.resolver
    }
}

impl Tables {
    fn lease(&self, address: Ipv4Addr, now: UnixTime) -> Option<Mac> {
        self.dhcp.as_ref()?.lease(address, now).map(|lease| lease.mac)
    }

    fn address_of(&self, mac: Mac, now: UnixTime) -> Option<Ipv4Addr> {
        self.dhcp.as_ref()?.address_of(mac, now)
    }
}

fn zone(lan: &Lan, document: Option<&EdgeDocument>) -> Zone {
    Zone::new(document, &lan.addresses, lan.domain.as_deref(), lan.resolver.is_some())
}

pub(crate) fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}
