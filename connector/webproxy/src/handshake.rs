//! The 407 loop, as a state machine.
//!
//! A proxy is asked without a login first, unless [`Memory`] knows better. Of what it offers the strongest is
//! answered: Negotiate, NTLM, Digest, Basic. A scheme whose token cannot be made, and a Kerberos ticket that is
//! refused, fall back to the next; a *password* that is refused is not tried again in a weaker form, because that
//! would lock accounts and let a man in the middle ask for it in clear.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    challenge::Challenge,
    credentials::Credentials,
    digest::{DigestChallenge, DigestSession},
    failure::{Failure, Scheme},
    memory::Memory,
    place::{Proxy, Target},
    reply::Reply,
    request::Head,
};

/// Which tokens the shell can have made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// NTLM from the credentials.
    pub ntlm: bool,
    /// A Kerberos ticket for the proxy.
    pub kerberos: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write these bytes, read one [`Reply`], give it to [`Handshake::replied`].
    Send {
        /// The request.
        head: Head,
        /// Make a new connection to the proxy first.
        reconnect: bool,
    },
    /// Have a token made and give it to [`Handshake::token`]. `challenge` is the proxy's last token; none: begin anew.
    Token {
        /// [`Scheme::Ntlm`] or [`Scheme::Negotiate`].
        scheme: Scheme,
        /// What the proxy sent.
        challenge: Option<Vec<u8>>,
    },
    /// The tunnel is open; [`Handshake::memory`] says what to remember.
    Open(Option<Scheme>),
}

/// One attempt to get through one proxy to one target.
#[derive(Debug)]
pub struct Handshake {
    proxy: Proxy,
    target: Target,
    credentials: Option<Credentials>,
    abilities: Abilities,
    /// The Kerberos ticket's service principal.
    service: String,
    state: State,
    /// Whether the connection in use can take another request.
    kept: bool,
    /// Schemes that did not work, and why.
    failed: Vec<(Scheme, Failure)>,
    rounds: u32,
}

#[derive(Debug)]
enum State {
    Bare,
    Basic,
    Digest(DigestSession),
    /// How many tokens were sent.
    Token(Scheme, u32),
}

impl Handshake {
    /// An attempt, on a connection that has not been used.
    #[must_use]
    pub fn new(
        proxy: Proxy,
        target: Target,
        credentials: Option<Credentials>,
        abilities: Abilities,
        memory: Memory,
    ) -> Self {
        let state = match memory {
            Memory::Basic => State::Basic,
            Memory::Digest(session) => State::Digest(session),
            Memory::Token(scheme) => State::Token(scheme, 0),
            Memory::Nothing => State::Bare,
        };
        let service = format!("HTTP/{}", proxy.host);
        let mut handshake =
            Self { proxy, target, credentials, abilities, service, state, kept: true, failed: Vec::new(), rounds: 0 };
        if !handshake.remembered_is_possible() {
            handshake.state = State::Bare;
        }
        handshake
    }

    /// Names the service principal of the Kerberos ticket, when it is not `HTTP/` and the proxy's host.
    #[must_use]
    pub fn with_service(self, service: String) -> Self {
        Self { service, ..self }
    }

    /// The first thing to do. `random` must never be used twice.
    pub fn start(&mut self, random: [u8; 16]) -> Action {
        match self.state {
            State::Token(scheme, _) => Action::Token { scheme, challenge: None },
            _ => self.send(random),
        }
    }

    /// The proxy answered.
    ///
    /// # Errors
    /// [`Failure`] when this proxy will not do.
    pub fn replied(&mut self, reply: &Reply, random: [u8; 16]) -> Result<Action, Failure> {
        self.kept = reply.keep;
        if reply.is_open() {
            if let (State::Digest(session), Some(nonce)) = (&mut self.state, &reply.next_nonce) {
                session.renew(nonce.clone());
            }
            return Ok(Action::Open(self.scheme()));
        }
        if reply.status != 407 {
            // Tinyproxy says so to a wrong password.
            let wrong = self.scheme().filter(|_| reply.status == 401 && self.credentials.is_some());
            return Err(wrong.map_or_else(|| self.refusal(reply), |scheme| self.wrong_login(scheme)));
        }
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds >= MAX_ROUNDS {
            return Err(Failure::Endless { proxy: self.proxy.clone(), rounds: self.rounds });
        }
        if reply.challenges.is_empty() {
            let why = reply.malformed.map_or_else(|| "it names no scheme".to_owned(), |error| error.to_string());
            return Err(Failure::BadChallenge { proxy: self.proxy.clone(), why });
        }
        match &self.state {
            State::Token(scheme, sent) if *sent > 0 => {
                let (scheme, sent) = (*scheme, *sent);
                if let Some(challenge) = token_of(&reply.challenges, scheme) {
                    if scheme == Scheme::Negotiate {
                        // A ticket is all that is said; the token says why it was refused. Asked without a login, the
                        // proxy lists what else there is.
                        self.rejected(scheme, sent)?;
                        return Ok(self.send(random));
                    }
                    if !reply.keep {
                        return Err(Failure::ClosedMidway { proxy: self.proxy.clone(), scheme });
                    }
                    return Ok(Action::Token { scheme, challenge: Some(challenge) });
                }
                self.rejected(scheme, sent)?;
            }
            State::Digest(_) => {
                let stale = strongest_digest(&reply.challenges).filter(|challenge| challenge.stale);
                if let Some(challenge) = stale {
                    self.state = State::Digest(DigestSession::new(challenge));
                    return Ok(self.send(random));
                }
                self.refused_or_forgotten(Scheme::Digest)?;
            }
            State::Basic => self.refused_or_forgotten(Scheme::Basic)?,
            State::Bare | State::Token(..) => {}
        }
        self.choose(&reply.challenges, random)
    }

    /// A token was made, or could not be: `why` says what went wrong and what to do.
    ///
    /// # Errors
    /// [`Failure::NoToken`] in the middle of an exchange; at its beginning the next scheme is tried.
    pub fn token(&mut self, made: Result<Vec<u8>, String>) -> Result<Action, Failure> {
        let State::Token(scheme, sent) = self.state else {
            return Err(Failure::Endless { proxy: self.proxy.clone(), rounds: self.rounds });
        };
        match made {
            Ok(token) => {
                self.state = State::Token(scheme, sent.saturating_add(1));
                Ok(self.write(Some(login(scheme, &token))))
            }
            Err(why) => {
                let failure = Failure::NoToken { proxy: self.proxy.clone(), scheme, why };
                if sent > 0 {
                    return Err(failure);
                }
                // Asking without a login brings the list of what else there is.
                self.failed.push((scheme, failure));
                self.state = State::Bare;
                Ok(self.write(None))
            }
        }
    }

    /// The connection ended without a reply. A proxy may close one that it had said to keep.
    ///
    /// # Errors
    /// [`Failure::ClosedMidway`] when the exchange cannot go on over another; [`Failure::BadReply`] when the
    /// connection was new.
    pub fn closed(&mut self, random: [u8; 16]) -> Result<Action, Failure> {
        self.rounds = self.rounds.saturating_add(1);
        match self.state {
            State::Token(scheme, sent) if sent > 1 => Err(Failure::ClosedMidway { proxy: self.proxy.clone(), scheme }),
            _ if self.rounds == 1 || self.rounds >= MAX_ROUNDS => {
                Err(Failure::BadReply { proxy: self.proxy.clone(), error: crate::ReplyError::Cut })
            }
            State::Token(scheme, _) => {
                self.kept = false;
                self.state = State::Token(scheme, 0);
                Ok(Action::Token { scheme, challenge: None })
            }
            _ => {
                self.kept = false;
                Ok(self.send(random))
            }
        }
    }

    /// What to remember about the proxy, once it is open.
    #[must_use]
    pub fn memory(self) -> Memory {
        match self.state {
            State::Bare => Memory::Nothing,
            State::Basic => Memory::Basic,
            State::Digest(session) => Memory::Digest(session),
            State::Token(scheme, _) => Memory::Token(scheme),
        }
    }

    fn remembered_is_possible(&self) -> bool {
        match &self.state {
            State::Bare => true,
            State::Basic => self.basic_allowed(),
            State::Digest(_) => self.credentials.is_some(),
            State::Token(scheme, _) => self.can_token(*scheme),
        }
    }

    fn scheme(&self) -> Option<Scheme> {
        match &self.state {
            State::Bare => None,
            State::Basic => Some(Scheme::Basic),
            State::Digest(_) => Some(Scheme::Digest),
            State::Token(scheme, _) => Some(*scheme),
        }
    }

    fn basic_allowed(&self) -> bool {
        self.credentials.as_ref().is_some_and(|credentials| self.proxy.tls || credentials.basic_in_clear)
    }

    fn can_token(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Negotiate => self.abilities.kerberos,
            Scheme::Ntlm => self.abilities.ntlm && self.credentials.is_some(),
            Scheme::Basic | Scheme::Digest => false,
        }
    }

    /// A login that memory made us show before being asked may only be out of date; one that was asked for is wrong.
    fn refused_or_forgotten(&mut self, scheme: Scheme) -> Result<(), Failure> {
        if self.rounds == 1 {
            self.state = State::Bare;
            return Ok(());
        }
        Err(self.wrong_login(scheme))
    }

    fn rejected(&mut self, scheme: Scheme, sent: u32) -> Result<(), Failure> {
        if scheme == Scheme::Negotiate {
            let service = self.service.clone();
            self.failed.push((scheme, Failure::TicketRefused { proxy: self.proxy.clone(), service }));
        } else if sent > 1 {
            return Err(self.wrong_login(scheme));
        } else {
            let why = "it offers the scheme but does not go on with it".to_owned();
            self.failed.push((scheme, Failure::NoToken { proxy: self.proxy.clone(), scheme, why }));
        }
        self.state = State::Bare;
        Ok(())
    }

    fn wrong_login(&self, scheme: Scheme) -> Failure {
        let account = self.credentials.as_ref().map(Credentials::account).unwrap_or_default();
        Failure::WrongLogin { proxy: self.proxy.clone(), scheme, account }
    }

    fn choose(&mut self, challenges: &[Challenge], random: [u8; 16]) -> Result<Action, Failure> {
        let offers = |scheme: Scheme| challenges.iter().any(|c| Scheme::named(&c.scheme) == Some(scheme));
        let failed = |scheme: Scheme| self.failed.iter().any(|(known, _)| *known == scheme);
        for scheme in [Scheme::Negotiate, Scheme::Ntlm] {
            if offers(scheme) && self.can_token(scheme) && !failed(scheme) {
                self.state = State::Token(scheme, 0);
                return Ok(Action::Token { scheme, challenge: None });
            }
        }
        if let Some(challenge) = strongest_digest(challenges).filter(|_| self.credentials.is_some()) {
            self.state = State::Digest(DigestSession::new(challenge));
        } else if offers(Scheme::Basic) && self.basic_allowed() {
            self.state = State::Basic;
        } else {
            return Err(self.nothing_left(challenges));
        }
        Ok(self.send(random))
    }

    fn nothing_left(&mut self, challenges: &[Challenge]) -> Failure {
        // The strongest that failed says most.
        if !self.failed.is_empty() {
            return self.failed.swap_remove(0).1;
        }
        let (proxy, offered) = (self.proxy.clone(), offered(challenges));
        let offers = |name: &str| challenges.iter().any(|c| c.scheme == name);
        if self.credentials.is_none() && !self.abilities.kerberos {
            return Failure::NeedsLogin { proxy, offered };
        }
        let mut advice = Vec::new();
        if offers("basic") && self.credentials.is_some() {
            advice.push("Basic would show the password to everybody on the way: use an https:// proxy, or accept it by web_proxy.allow_basic_in_clear = true");
        }
        if (offers("basic") || offers("digest") || offers("ntlm")) && self.credentials.is_none() {
            advice.push("name web_proxy.user and web_proxy.password_file");
        }
        if offers("negotiate") && !self.abilities.kerberos {
            advice.push("fill in [web_proxy.kerberos]");
        }
        if advice.is_empty() {
            advice
                .push("ask the proxy's administrator for Negotiate, NTLM, Digest (MD5 or SHA-256, qop=auth) or Basic");
        }
        Failure::NoCommonScheme { proxy, offered, advice: advice.join("; ") }
    }

    fn send(&mut self, random: [u8; 16]) -> Action {
        let uri = self.target.to_string();
        let authorization = match (&mut self.state, &self.credentials) {
            (State::Basic, Some(credentials)) => {
                let account = credentials.account();
                let pair = [account.as_bytes(), b":", credentials.password.expose().as_bytes()].concat();
                Some(login(Scheme::Basic, &Zeroizing::new(pair)))
            }
            (State::Digest(session), Some(credentials)) => {
                Some(Zeroizing::new(session.answer(credentials, "CONNECT", &uri, random)))
            }
            _ => None,
        };
        self.write(authorization)
    }

    fn write(&mut self, authorization: Option<Zeroizing<Vec<u8>>>) -> Action {
        let reconnect = !std::mem::replace(&mut self.kept, true);
        Action::Send { head: Head::connect(&self.target, authorization.as_deref().map(Vec::as_slice)), reconnect }
    }

    fn refusal(&self, reply: &Reply) -> Failure {
        let (proxy, target) = (self.proxy.clone(), self.target.clone());
        let (status, reason) = (reply.status, reply.reason.clone());
        match status {
            403 | 451 => Failure::Forbidden { proxy, target, status, reason },
            502..=504 => Failure::Unreachable { proxy, target, status, reason },
            400 | 404 | 405 | 501 => Failure::NoProxy { proxy, status, reason },
            300..=399 | 511 => Failure::Portal { proxy, status, reason },
            _ => Failure::Refused { proxy, target, status, reason },
        }
    }
}

/// What is shown of a scheme that carries base64.
fn login(scheme: Scheme, token: &[u8]) -> Zeroizing<Vec<u8>> {
    let token = Zeroizing::new(STANDARD.encode(token));
    Zeroizing::new([scheme.to_string().as_bytes(), b" ", token.as_bytes()].concat())
}

fn strongest_digest(challenges: &[Challenge]) -> Option<DigestChallenge> {
    challenges.iter().filter_map(DigestChallenge::read).max_by_key(DigestChallenge::strength)
}

/// The token that goes on with `scheme`, when there is one.
fn token_of(challenges: &[Challenge], scheme: Scheme) -> Option<Vec<u8>> {
    let of_scheme = challenges.iter().filter(|c| Scheme::named(&c.scheme) == Some(scheme));
    let token = of_scheme.filter_map(|challenge| challenge.token68.as_deref()).next();
    // What is not base64 is no token of these schemes; the exchange is over then.
    token.and_then(|token| STANDARD.decode(token).ok())
}

fn offered(challenges: &[Challenge]) -> String {
    let mut names: Vec<String> = Vec::new();
    for challenge in challenges {
        let name = match (Scheme::named(&challenge.scheme), challenge.param("algorithm")) {
            (Some(Scheme::Digest), Some(algorithm)) => format!("Digest {}", shown(algorithm)),
            (Some(scheme), _) => scheme.to_string(),
            (None, _) => shown(&challenge.scheme),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(MAX_SHOWN).collect()
}

/// Most times that one attempt is challenged.
const MAX_ROUNDS: u32 = 8;
/// How much of a foreign scheme's name is shown, characters.
const MAX_SHOWN: usize = 32;
