//! Making the tokens of NTLM, and having those of Kerberos made by a worker.

use std::{
    sync::atomic::AtomicUsize,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sluice_connector_webproxy::{Abilities, Credentials, NtlmAnswer, Proxy, Refused, Scheme, ntlm_negotiate};
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use crate::{
    dial::Resolver,
    kdc::{Kdcs, Kerberos, KerberosSecret},
    worker::{Answer, Ask, Done, Help, Kind, Login, Secret, Staff},
};

/// What logins by token need.
#[derive(Debug)]
pub(crate) struct Logins {
    workers: Option<Staff>,
    resolver: Resolver,
    kerberos: Option<Kerberos>,
    workstation: String,
    /// By realm. Held while a ticket is fetched: a wrong password is not shown several times at once.
    refused: Mutex<Refused<String, String>>,
    last_kdc: AtomicUsize,
    began: Instant,
}

impl Logins {
    pub(crate) fn new(
        workers: Option<Staff>,
        resolver: Resolver,
        kerberos: Option<Kerberos>,
        workstation: String,
    ) -> Self {
        let (refused, last_kdc, began) = (Mutex::default(), AtomicUsize::new(0), Instant::now());
        Self { workers, resolver, kerberos, workstation, refused, last_kdc, began }
    }

    /// Which tokens can be made.
    pub(crate) const fn abilities(&self) -> Abilities {
        Abilities { ntlm: true, kerberos: self.workers.is_some() && self.kerberos.is_some() }
    }

    /// The service principal of the ticket for `proxy`.
    pub(crate) fn service_at(&self, proxy: &Proxy) -> Option<String> {
        self.kerberos.as_ref().map(|kerberos| kerberos.service_at(proxy))
    }

    /// The next token for `proxy`, to its `challenge`; without one the first.
    pub(crate) async fn token(
        &self,
        scheme: Scheme,
        challenge: Option<Vec<u8>>,
        proxy: &Proxy,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<u8>, String> {
        match (scheme, challenge, credentials) {
            (Scheme::Ntlm, None, _) => Ok(ntlm_negotiate()),
            (Scheme::Ntlm, Some(challenge), Some(credentials)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let mut random = [0; 8];
                aws_lc_rs::rand::fill(&mut random).map_err(|_| "the system has no randomness")?;
                let answer = NtlmAnswer { credentials, workstation: &self.workstation, now, random };
                answer.to(&challenge).map_err(|error| error.to_string())
            }
            (Scheme::Negotiate, None, _) => self.ticket(proxy).await,
            // One token is all that Kerberos has to say to a proxy.
            _ => Err("the proxy goes on with a login that was complete".to_owned()),
        }
    }

    async fn ticket(&self, proxy: &Proxy) -> Result<Vec<u8>, String> {
        let (Some(kerberos), Some(workers)) = (&self.kerberos, &self.workers) else {
            return Err("no Kerberos account is named".to_owned());
        };
        let mut refused = self.refused.lock().await;
        if let Some((why, left)) = refused.standing(&kerberos.realm, self.began.elapsed()) {
            return Err(format!("{why}; {}", not_again(left)));
        }
        let secret = match &kerberos.secret {
            KerberosSecret::Password(password) => Secret::Password(Zeroizing::new(password.expose().to_owned())),
            KerberosSecret::Key(key) => Secret::Key { kind: key.kind, key: key.key.clone() },
        };
        let service = kerberos.service_at(proxy);
        let (name, realm) = (kerberos.name.clone(), kerberos.realm.clone());
        let ask = Ask::Login(Login { name, realm, secret, service, workstation: self.workstation.clone() });
        let carrier = Carrier(Kdcs { resolver: &self.resolver, kerberos, last: &self.last_kdc });
        let job = workers.start(Kind::Login).await;
        let mut job = job.map_err(|error| format!("no worker process: {error}"))?;
        match job.ask(&ask, &carrier).await? {
            Done::Token(token) => {
                refused.forget(&kerberos.realm);
                Ok(token)
            }
            Done::WrongSecret(why) => {
                refused.note(kerberos.realm.clone(), why.clone(), self.began.elapsed());
                Err(why)
            }
            _ => Err("the worker process answered something else".to_owned()),
        }
    }
}

/// Says how long a login that was refused is not shown.
pub(crate) fn not_again(left: Duration) -> String {
    let minutes = left.as_secs().div_ceil(60);
    format!("it is not tried again for {minutes} min, so that the account is not locked; restart after a change")
}

/// Carries messages to KDCs of the account's own realm.
struct Carrier<'a>(Kdcs<'a>);

impl Help for Carrier<'_> {
    async fn help(&self, asked: &Answer) -> Option<Ask> {
        match asked {
            Answer::Kdc { realm, request } if *realm == self.0.kerberos.realm => {
                Some(Ask::Kdc(self.0.ask(request).await))
            }
            _ => None,
        }
    }
}
