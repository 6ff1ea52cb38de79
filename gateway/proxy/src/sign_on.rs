//! Single sign-on state of one gateway process, and what requests ask of it.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use sluice_gateway_access::{
    Cookies, Entered, FlowRefused, Permitted, Plan, Randomness, Session, SessionStanding, SpentCodes, permit, standing,
};
use sluice_node_identity::{AppId, UnixTime};
use tokio::sync::Notify;

use crate::{Parts, journal::Journal, live::Live};

/// The operating system's random source.
pub(crate) struct SystemSource;

impl Randomness for SystemSource {
    fn fill(&mut self, out: &mut [u8]) {
        // Without randomness every promise here is void; the library aborts the process itself in that case, so an
        // error cannot be seen and could not be survived.
        if SystemRandom::new().fill(out).is_err() {
            tracing::error!("the system's random source failed");
            std::process::abort();
        }
    }
}

pub(crate) fn now() -> UnixTime {
    SystemTime::now().into()
}

/// What all requests share.
pub(crate) struct SignOn {
    pub(crate) parts: Arc<Parts>,
    pub(crate) live: Arc<Live>,
    spent: Mutex<SpentCodes>,
    journal: Arc<Journal>,
    logged_out: Notify,
}

impl SignOn {
    pub(crate) fn new(parts: Arc<Parts>, logouts: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            parts,
            live: Arc::default(),
            spent: Mutex::new(SpentCodes::new(now())),
            journal: Arc::new(Journal::open(logouts)?),
            logged_out: Notify::new(),
        })
    }

    pub(crate) fn plan(&self) -> Option<Arc<Plan>> {
        self.parts.plan.borrow().clone()
    }

    /// The running session that `host` was shown.
    pub(crate) fn session(&self, plan: &Plan, host: &str, cookies: &Cookies<'_>) -> Option<Session> {
        let now = now();
        let session = plan.session(host, cookies, now)?;
        self.stands(&session, now).then_some(session)
    }

    fn stands(&self, session: &Session, now: UnixTime) -> bool {
        standing(session, &self.parts.state.borrow(), &self.journal.logouts(), now) == SessionStanding::Running
    }

    /// Takes a hand-over code; a session that was taken back meanwhile is not continued.
    pub(crate) fn enter(
        &self,
        plan: &Plan,
        host: &str,
        code: &str,
        cookies: &Cookies<'_>,
    ) -> Result<Entered, FlowRefused> {
        if !self.parts.factors.may_grant() {
            return Err(FlowRefused::Broken);
        }
        let now = now();
        let entered = {
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            plan.enter(host, code, cookies, &mut spent, now, &mut SystemSource)?
        };
        if self.stands(&entered.session, now) { Ok(entered) } else { Err(FlowRefused::Broken) }
    }

    /// Ends a session on this gateway, on all its hosts.
    pub(crate) async fn log_out(&self, session: &Session) {
        self.journal.end(session).await;
        self.logged_out.notify_one();
    }

    /// Resolves after somebody logged out.
    pub(crate) async fn logged_out(&self) {
        self.logged_out.notified().await;
    }

    /// Ends what runs without a right: sessions over or taken back, apps gone or not for this user any more.
    pub(crate) fn cut_revoked(&self) {
        let (plan, now) = (self.plan(), now());
        self.live.cut(|session, host, app| {
            self.stands(session, now) && plan.as_ref().is_some_and(|plan| may_use(plan, session, host, app))
        });
    }
}

fn may_use(plan: &Plan, session: &Session, host: &str, app: &AppId) -> bool {
    let permitted: Option<Permitted<_>> = plan.app(host).and_then(|found| permit(found, session.clone()).ok());
    permitted.is_some_and(|permitted| permitted.app().id == *app)
}
