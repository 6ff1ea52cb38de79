//! Runs everything on one LAN.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use sluice_discovery_rules::EdgeDocument;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Control, Kernel, Lan, Sockets, advertise, dhcp, dns,
    door::House,
    lan::Desk,
    orders::{self, Queue},
};

/// How often leases and admissions are looked through.
const TICK: Duration = Duration::from_secs(1);
/// How long the last router advertisement may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The sockets and tables of one LAN, ready to run.
pub struct Agent {
    house: House,
    queue: Queue,
    sockets: Sockets,
}

/// Changes what a running agent does.
#[derive(Clone)]
pub struct Handle(Arc<Desk>);

impl Handle {
    /// Puts a document in force, all of it or nothing. The inner error says why it was refused.
    ///
    /// # Errors
    /// When the kernel writer is gone.
    pub async fn document(&self, document: EdgeDocument) -> anyhow::Result<Result<(), String>> {
        self.0.document(Arc::new(document)).await
    }

    /// To be called at every change of the state feed: stages hubs that lost their standing.
    ///
    /// # Errors
    /// When the kernel writer does not keep up.
    pub fn review(&self) -> anyhow::Result<()> {
        self.0.review()
    }
}

impl Agent {
    /// Puts sockets and tables together. Needs a tokio runtime only when [`Self::run`].
    #[must_use]
    pub fn new(lan: Lan, sockets: Sockets, control: Arc<dyn Control>) -> (Self, Handle) {
        let (orders, queue) = orders::queue();
        let neighbours = sockets.neighbours.clone();
        let desk = Arc::new(Desk::new(lan, sockets.index, neighbours, orders, control));
        let house = House::new(desk.clone());
        (Self { house, queue, sockets }, Handle(desk))
    }

    /// Serves until `stop` becomes true.
    ///
    /// # Errors
    /// When the kernel writer is gone or does not keep up: nobody may stay admitted then.
    pub async fn run(self, kernel: impl Kernel, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let Self { house, queue, sockets } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(queue.run(kernel));
        tasks.spawn(tick(house.desk.clone()));
        if let Some(socket) = sockets.dhcp {
            tasks.spawn(dhcp::run(socket, house.desk.clone()));
        }
        for socket in sockets.dns_udp {
            tasks.spawn(dns::run_udp(socket, house.desk.clone()));
        }
        for listener in sockets.dns_tcp {
            tasks.spawn(dns::run_tcp(listener, house.desk.clone()));
        }
        for listener in sockets.http {
            tasks.spawn(house.clone().run(listener, false));
        }
        for listener in sockets.https {
            tasks.spawn(house.clone().run(listener, true));
        }
        let (reports, control) = (house.reports.clone(), house.desk.control().clone());
        tasks.spawn(async move {
            reports.run(control).await;
            Ok(())
        });
        tasks.spawn(async move {
            house.keep_certificate().await;
            Ok(())
        });
        let mut router = None;
        if let Some((socket, advert)) = sockets.router {
            router = Some(tokio::spawn(advertise::run(socket, advert, sockets.index, stop.clone())));
        }
        let mut stop = stop;
        let result = tokio::select! {
            () = advertise::stopped(&mut stop) => Ok(()),
            ended = tasks.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(error)) => Err(error).context("a part of the agent failed"),
                Some(Ok(Ok(()))) | None => Err(anyhow::anyhow!("a part of the agent ended")),
            },
        };
        tasks.shutdown().await;
        if let Some(mut router) = router
            && timeout(FAREWELL, &mut router).await.is_err()
        {
            router.abort();
        }
        result
    }
}

async fn tick(desk: Arc<Desk>) -> anyhow::Result<()> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        desk.tick()?;
    }
}
