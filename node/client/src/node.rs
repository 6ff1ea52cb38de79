//! A joined node: its name, its TLS, its watches.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer, sign::CertifiedKey};
use serde::{Serialize, de::DeserializeOwned};
use sluice_node_identity::{ConfigEnvelope, Fingerprint, JoinCode, Role, StateEvent, StateView, UnixTime, api::Joined};
use tokio::sync::watch;

use crate::{
    Judge, Settings,
    call::{CallError, Control},
    certificate,
    dial::{Dial, Direct},
    disk::StateDir,
    follow,
    gate::Gate,
    identity::Identity,
    join,
    key::Keys,
    renew,
    tls::{self, Shown, Trust},
};

/// When control was last heard of, as kept on disk.
const CONTACT: &str = "contact.json";
/// How often that is written, seconds.
const CONTACT_EVERY: u64 = 60;

/// A node of a tenant. Cheap to clone; all clones are one node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

/// What must be done with the rights of whoever starts a node: making the state directory, reading the join code.
pub struct Ready {
    settings: Settings,
    disk: StateDir,
    code: Option<JoinCode>,
    way: Arc<dyn Dial>,
    keys: Keys,
}

impl Ready {
    /// Does it, and logs in to the token of the settings. Starts no thread and opens no connection.
    ///
    /// # Errors
    /// When the state directory cannot be made, the token does not let us in, or the join code file cannot be read, is
    /// not kept secret, or holds something else.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let disk = StateDir::open(&settings.state_dir)?;
        let code = join::code(&settings)?;
        let keys = Keys::open(settings.token.as_ref())?;
        Ok(Self { settings, disk, code, way: Arc::new(Direct), keys })
    }

    /// Reaches control by `way` from now on: joining, renewing and watching alike.
    #[must_use]
    pub fn through(self, way: Arc<dyn Dial>) -> Self {
        Self { way, ..self }
    }
}

pub(crate) struct Inner {
    pub(crate) disk: StateDir,
    pub(crate) keys: Keys,
    pub(crate) control: Control,
    pub(crate) joined: Joined,
    pub(crate) gate: Gate,
    /// Held while key or certificate change.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    /// Shows this node's certificate.
    pub(crate) tls: Arc<ClientConfig>,
    /// Shows none: for re-joining with an expired one.
    pub(crate) anonymous_tls: Arc<ClientConfig>,
    pub(crate) config: watch::Sender<Option<Arc<ConfigEnvelope>>>,
    pub(crate) state: watch::Sender<Arc<StateView>>,
    identity: Mutex<Identity>,
    shown: Arc<Shown>,
    keys_shown: watch::Sender<u64>,
    root: CertificateDer<'static>,
    contact: Mutex<Contact>,
    /// Why control does not let the node watch, since it was last heard.
    refused: Mutex<Option<String>>,
}

/// When control was last heard of: by the wall clock (it survives restarts) and by one that cannot be set back.
struct Contact {
    wall: UnixTime,
    steady: Instant,
    written: UnixTime,
}

impl Node {
    /// Loads the identity kept in the state directory, or joins with the join code when there is none or the code is
    /// a new one. Tries again, with a bounded pause, while control cannot be reached.
    ///
    /// # Errors
    /// When the state directory cannot be used, there is neither identity nor code, or control refuses the code.
    pub async fn open(settings: Settings, role: Role) -> anyhow::Result<Self> {
        Self::start(Ready::new(settings)?, role).await
    }

    /// As [`Self::open`], after privileges have been dropped.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn start(ready: Ready, role: Role) -> anyhow::Result<Self> {
        let Ready { settings, disk, code, way, keys } = ready;
        let stored: Option<Identity> = disk.read(Identity::FILE)?;
        let identity = match (stored, code) {
            (Some(identity), None) => identity,
            (Some(identity), Some(code)) if identity.code == code.secret.digest() => identity,
            (former, Some(code)) => {
                if let Some(former) = &former {
                    tracing::info!(node = %former.spiffe(), "a new join code is given: the former identity is given up");
                }
                let identity = join::join(&settings, &way, role, &disk, &keys, &code).await?;
                for file in [follow::DOCUMENT, follow::STATE, CONTACT] {
                    disk.remove(file)?;
                }
                disk.write(Identity::FILE, &identity)?;
                join::complete(&disk)?;
                for key in former.iter().flat_map(Identity::keys) {
                    keys.forget(key)?;
                }
                identity
            }
            (None, None) => {
                bail!("this node has not joined: put a join code (sluice admin node add) into control.join_code_file")
            }
        };
        let is = identity.joined.role;
        if is != role {
            bail!("{} belongs to a {is}, this is a {role}; use another state_dir", settings.state_dir.display());
        }
        Inner::new(&settings, way, disk, keys, identity).map(|inner| Self(Arc::new(inner)))
    }

    /// Who this node is. (`chain` is the one it joined with; see [`Self::certified_key`] for the current one.)
    #[must_use]
    pub fn name(&self) -> &Joined {
        &self.0.joined
    }

    /// Names the join that made this identity: the digest of its code. What must not outlive an identity is kept by it.
    #[must_use]
    pub fn join(&self) -> Fingerprint {
        self.0.identity().code
    }

    /// The certificate and key in use now; they change with every renewal.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.0.shown.0.load_full()
    }

    /// Counts renewals. Whoever keeps connections to control open must not send requests on those that were made
    /// before the last change: control takes an old key used after a new one for a clone and locks the node.
    #[must_use]
    pub fn keys_shown(&self) -> watch::Receiver<u64> {
        self.0.keys_shown.subscribe()
    }

    /// The leaf certificate in use now.
    ///
    /// # Errors
    /// Never in practice: a chain without a leaf is not taken into use.
    pub fn leaf_der(&self) -> anyhow::Result<CertificateDer<'static>> {
        self.certified_key().cert.first().cloned().context("no certificate in use")
    }

    /// The root of all nodes.
    #[must_use]
    pub fn root_der(&self) -> CertificateDer<'static> {
        self.0.root.clone()
    }

    /// TLS 1.3 towards other nodes: shows this node's certificate, believes the node root only and checks the
    /// server's name. Whom the SPIFFE ID names is for the caller to check.
    ///
    /// # Errors
    /// When the root is not a usable trust anchor.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, rustls::Error> {
        tls::node_client(self.root_der(), self.0.shown.clone(), alpn)
    }

    /// TLS 1.3 for control and other nodes that come in: their certificate, from the node root, is required.
    /// Whom its SPIFFE ID names is for the caller to check.
    ///
    /// # Errors
    /// When the root is not a usable trust anchor.
    pub fn server_config_with(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, rustls::Error> {
        tls::node_server(self.root_der(), self.0.shown.clone(), alpn)
    }

    /// TLS 1.3 towards control itself (HTTP/1.1): like [`Self::client_config`], but refuses a server whose
    /// certificate is a node's or a hub's.
    #[must_use]
    pub fn control_config(&self) -> Arc<ClientConfig> {
        self.0.tls.clone()
    }

    /// The newest document control sent, else the last good one from disk.
    #[must_use]
    pub fn config(&self) -> watch::Receiver<Option<Arc<ConfigEnvelope>>> {
        self.0.config.subscribe()
    }

    /// What control says about hubs, sessions, users and nodes. `seq()` is 0 before the first snapshot.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<Arc<StateView>> {
        self.0.state.subscribe()
    }

    /// When control was last heard of; 0 when never.
    #[must_use]
    pub fn silent_since(&self) -> UnixTime {
        self.0.contact().wall
    }

    /// Why control refused the node's last watch, in its words; `None` when it did not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether control has been silent for longer than `max_stale`: then nothing new (session, ticket, enrolment)
    /// may be granted. Setting the clock back does not help.
    #[must_use]
    pub fn stale(&self, max_stale: Duration) -> bool {
        let now = UnixTime::from(SystemTime::now());
        let contact = self.0.contact();
        contact.steady.elapsed() > max_stale || now.since(contact.wall) > max_stale.as_secs()
    }

    /// Asks control.
    ///
    /// # Errors
    /// [`CallError`]: unreachable, or refused with a reason.
    pub async fn post<Req: Serialize + ?Sized, Rep: DeserializeOwned>(
        &self,
        path: &str,
        request: &Req,
    ) -> Result<Rep, CallError> {
        self.0.post(path, request).await
    }

    /// Tells control that the document of this version cannot be applied, and why.
    pub async fn refuse(&self, version: u64, reason: impl Into<String>) {
        self.0.refuse(version, reason.into()).await;
    }

    /// Follows document and state and keeps the certificate fresh until `shutdown` holds true (or is dropped).
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        self.run_judging(shutdown, Arc::new(|_| Ok(()))).await;
    }

    /// As [`Self::run`]; a document, the one on disk first, counts only when `judge` lets it pass.
    pub async fn run_judging(&self, mut shutdown: watch::Receiver<bool>, judge: Judge) {
        let work = async {
            tokio::join!(
                follow::document(self.0.clone(), judge),
                follow::state(self.0.clone()),
                follow::remember(self.0.clone()),
                renew::keep_fresh(self.0.clone()),
            )
        };
        tokio::select! {
            _ = work => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    /// Renews the certificate now, whatever its age.
    ///
    /// # Errors
    /// When control is not reachable or refuses.
    pub async fn renew(&self) -> anyhow::Result<()> {
        renew::renew(&self.0).await
    }
}

impl Inner {
    fn new(
        settings: &Settings,
        way: Arc<dyn Dial>,
        disk: StateDir,
        keys: Keys,
        identity: Identity,
    ) -> anyhow::Result<Self> {
        let root = certificate::single(&identity.joined.root).context("the stored root is damaged")?;
        let shown = Arc::new(Shown(ArcSwap::new(identity.certified_key(&keys)?)));
        let wall: UnixTime = disk.read(CONTACT)?.unwrap_or_default();
        let document: Option<ConfigEnvelope> = disk.read(follow::DOCUMENT)?;
        let mut state = StateView::default();
        if let Some(snapshot) = disk.read::<StateEvent>(follow::STATE)? {
            state.apply(snapshot)?;
        }
        let inner = Self {
            control: Control::new(&identity.url, settings.control_address, way)?,
            joined: identity.joined.clone(),
            gate: Gate::default(),
            renewing: tokio::sync::Mutex::default(),
            tls: tls::control_client(Trust::Root(root.clone()), Some(shown.clone()))?,
            anonymous_tls: tls::control_client(Trust::Root(root.clone()), None)?,
            config: watch::Sender::new(None),
            state: watch::Sender::new(Arc::new(state)),
            identity: Mutex::new(identity),
            keys,
            shown,
            keys_shown: watch::Sender::new(0),
            root,
            contact: Mutex::new(Contact { wall, steady: Instant::now(), written: wall }),
            refused: Mutex::default(),
            disk,
        };
        match document.map(|document| follow::readable(&inner, &document).map(|()| document)).transpose() {
            Ok(document) => drop(inner.config.send_replace(document.map(Arc::new))),
            Err(reason) => tracing::warn!("the document on disk is not used: {reason:#}"),
        }
        Ok(inner)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes `identity` to disk and takes its certificate into use.
    pub(crate) fn keep(&self, identity: Identity) -> anyhow::Result<()> {
        let certified = identity.certified_key(&self.keys)?;
        self.disk.write(Identity::FILE, &identity)?;
        let mut kept = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = kept.joined.chain != identity.joined.chain;
        let former = std::mem::replace(&mut *kept, identity.clone());
        drop(kept);
        for key in former.keys().filter(|key| !identity.keys().any(|kept| kept == *key)) {
            // Nobody believes it any more.
            if let Err(error) = self.keys.forget(key) {
                tracing::warn!("{error:#}");
            }
        }
        if changed {
            self.shown.0.store(certified);
            self.keys_shown.send_modify(|count| *count = count.saturating_add(1));
        }
        Ok(())
    }

    pub(crate) async fn post<Rep: DeserializeOwned>(
        &self,
        path: &str,
        request: &(impl Serialize + ?Sized),
    ) -> Result<Rep, CallError> {
        let _call = self.gate.call().await;
        let answer = join::post(&self.control, &self.tls, path, request).await;
        if answer.is_ok() {
            self.heard();
        }
        answer
    }

    /// Control said something.
    pub(crate) fn heard(&self) {
        let now = UnixTime::from(SystemTime::now());
        let mut contact = self.contact();
        (contact.wall, contact.steady) = (now, Instant::now());
        let write = now.since(contact.written) >= CONTACT_EVERY || contact.written > now;
        if write {
            contact.written = now;
        }
        drop(contact);
        if write && let Err(error) = self.disk.write(CONTACT, &now) {
            tracing::warn!("the time of the last contact is not on disk: {error:#}");
        }
    }

    /// A watch works.
    pub(crate) fn let_in(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A watch did not come about.
    pub(crate) fn not_heard(&self, why: &CallError) {
        if let CallError::Refused { message, .. } = why {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
        }
    }

    fn contact(&self) -> std::sync::MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
