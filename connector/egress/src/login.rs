//! Making the tokens of NTLM, and having those of Kerberos made by a worker.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sluice_connector_webproxy::{Abilities, Credentials, NtlmAnswer, Proxy, Scheme, ntlm_negotiate};
use zeroize::Zeroizing;

use crate::{
    dial::Resolver,
    kdc::{self, Kerberos, KerberosSecret},
    worker::{Answer, Ask, Done, Help, Job, Kind, Login, Secret, Workers},
};

/// What logins by token need.
#[derive(Clone, Debug)]
pub(crate) struct Logins {
    pub(crate) workers: Option<Arc<dyn Workers>>,
    pub(crate) resolver: Resolver,
    pub(crate) kerberos: Option<Kerberos>,
    pub(crate) workstation: String,
}

impl Logins {
    /// Which tokens can be made.
    pub(crate) const fn abilities(&self) -> Abilities {
        Abilities { ntlm: true, kerberos: self.workers.is_some() && self.kerberos.is_some() }
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
        let secret = match &kerberos.secret {
            KerberosSecret::Password(password) => Secret::Password(Zeroizing::new(password.expose().to_owned())),
            KerberosSecret::Key(key) => Secret::Key { kind: key.kind, key: key.key.clone() },
        };
        let service = kerberos.service.clone().unwrap_or_else(|| format!("HTTP/{}", proxy.host));
        let (name, realm) = (kerberos.name.clone(), kerberos.realm.clone());
        let ask = Ask::Login(Login { name, realm, secret, service, workstation: self.workstation.clone() });
        let carrier = Carrier { resolver: &self.resolver, kerberos };
        let mut job =
            Job::start(workers.as_ref(), Kind::Login).map_err(|error| format!("no worker process: {error}"))?;
        match job.ask(&ask, &carrier).await? {
            Done::Token(token) => Ok(token),
            _ => Err("the worker process answered something else".to_owned()),
        }
    }
}

/// Carries messages to KDCs of the account's own realm.
struct Carrier<'a> {
    resolver: &'a Resolver,
    kerberos: &'a Kerberos,
}

impl Help for Carrier<'_> {
    async fn help(&self, asked: &Answer) -> Option<Ask> {
        match asked {
            Answer::Kdc { realm, request } if *realm == self.kerberos.realm => {
                Some(Ask::Kdc(kdc::ask(self.resolver, self.kerberos, request).await))
            }
            _ => None,
        }
    }
}
