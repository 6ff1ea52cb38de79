//! The connector's whole decision about one stream.
//!
//! Three steps, so that an agent can judge many tokens at a time: [`Examiner::examine`] checks the signature against a
//! snapshot, [`Gatekeeper::spend`] is the only step that needs the one memory of spent tokens, [`Spent::grant`] asks
//! the list that was in use at that moment.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ipnetwork::IpNetwork;
use sluice_node_identity::{ResourceId, UnixTime};

use crate::{
    AllowList, AllowListKeeper, AllowRule, Caller, CallerKind, CheckedList, ListRefused, Question, Refusal,
    SignedAllowList, StreamClaims, StreamKind, Target, Verdict,
    frame::MAX_FRAME,
    jws::{TYP_STREAM, Unverified},
    spent::{NotSpent, SpentTokens, TokenId},
};

/// Longest life of a token, in seconds.
pub const MAX_TOKEN_LIFE: u64 = 30;
/// How far caller's and connector's clocks may differ, in seconds.
pub const TOKEN_LEEWAY: u64 = 30;
/// Tokens remembered per caller by default: 7,000 streams a second with tokens of 5 s. 16 MiB when it is full.
pub const SPENT_PER_CALLER: usize = 262_144;
/// Longest `sub`.
const MAX_SUB: usize = 200;

/// How a token arrived: facts about the connection, never taken from the token itself.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Directly from the gateway, or inside a sealed stream.
    pub kind: StreamKind,
    /// Who is at the other end of the TLS it came through: a gateway's id, or [`crate::CONTROL`].
    pub caller: &'a str,
    /// The tunnel session it came through.
    pub sid: &'a str,
    /// [`crate::certificate_hash`] of the leaf certificate at the other end of the TLS it came through.
    pub cnf: &'a str,
}

/// Proof that a token passed every check and has been spent. What is left is the dial guard with
/// [`Granted::networks`], then to dial.
#[derive(Debug)]
pub struct Granted {
    kid: String,
    rule: String,
    claims: StreamClaims,
    networks: Vec<IpNetwork>,
}

impl Granted {
    /// What to dial.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.claims.tgt
    }

    /// Own networks in which the resolved address may lie.
    #[must_use]
    pub fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }

    /// Name of the first rule that lets it pass, for logs.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Everything that was asked for.
    #[must_use]
    pub const fn claims(&self) -> &StreamClaims {
        &self.claims
    }

    /// Which resource was asked for.
    #[must_use]
    pub const fn resource(&self) -> &ResourceId {
        &self.claims.res
    }

    /// Who asked.
    #[must_use]
    pub fn caller(&self) -> &str {
        &self.claims.iss
    }

    /// On whose behalf.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.claims.sub
    }
}

/// Decides about streams. One per running agent.
#[derive(Debug)]
pub struct Gatekeeper {
    keeper: AllowListKeeper,
    spent: BTreeMap<String, SpentTokens>,
    spent_per_caller: usize,
}

impl Gatekeeper {
    /// Starts with what `keeper` knows, remembering at most `spent_per_caller` tokens of each caller. What a former
    /// process let pass need not be known: tokens name their session, and each process makes new ones.
    #[must_use]
    pub const fn new(keeper: AllowListKeeper, spent_per_caller: usize) -> Self {
        Self { keeper, spent: BTreeMap::new(), spent_per_caller }
    }

    /// The keeper of lists. A copy can be offered a list, and what must be stored be stored, while streams go on being
    /// judged by this one; then [`Self::use_lists`].
    #[must_use]
    pub const fn lists(&self) -> &AllowListKeeper {
        &self.keeper
    }

    /// Takes a list into use; see [`AllowListKeeper::offer`].
    ///
    /// # Errors
    /// [`ListRefused`]; nothing has changed then.
    pub fn offer_list(&mut self, signed: &SignedAllowList, now: UnixTime) -> Result<(), ListRefused> {
        let mut keeper = self.keeper.clone();
        keeper.offer(signed, now)?;
        self.use_lists(keeper, now);
        Ok(())
    }

    /// Judges by what `keeper`, a copy of [`Self::lists`], has come to know.
    pub fn use_lists(&mut self, keeper: AllowListKeeper, now: UnixTime) {
        self.keeper = keeper;
        // Callers come and go with lists; a departed one's memory may go when none of its tokens could pass again.
        let list = self.keeper.current();
        self.spent.retain(|id, spent| {
            list.is_some_and(|list| list.list().callers.iter().any(|caller| caller.id == *id)) || !spent.is_idle(now)
        });
    }

    /// The list in use, whether expired or not.
    #[must_use]
    pub fn list(&self) -> Option<Arc<CheckedList>> {
        self.keeper.current().cloned()
    }

    /// How many spent tokens are remembered, by caller.
    #[must_use]
    pub fn remembered(&self) -> BTreeMap<String, usize> {
        self.spent.iter().map(|(caller, spent)| (caller.clone(), spent.len())).collect()
    }

    /// Whether some caller's tokens of `now` cannot be told from forgotten ones, because the clock was set back. Then
    /// all sessions must end, and after them [`Self::begin_anew`].
    #[must_use]
    pub fn is_stuck(&self, now: UnixTime) -> bool {
        self.spent.values().any(|spent| spent.is_stuck(self.spent_per_caller, now))
    }

    /// Forgets all spent tokens. Only when no session is left in which one of them could be shown again.
    pub fn begin_anew(&mut self) {
        self.spent.clear();
    }

    /// What tokens are examined with until the list changes.
    ///
    /// # Errors
    /// [`Refusal::NoList`].
    pub fn examiner(&self) -> Result<Examiner, Refusal> {
        Ok(Examiner { list: self.list().ok_or(Refusal::NoList)? })
    }

    /// Spends an examined token.
    ///
    /// # Errors
    /// [`Refusal`]; also when the key that signed it has left the list since it was examined.
    pub fn spend(&mut self, examined: Examined, now: UnixTime) -> Result<Spent, Refusal> {
        let list = self.keeper.current().ok_or(Refusal::NoList)?.clone();
        let Examined { list: seen, kid, claims, id } = examined;
        if !Arc::ptr_eq(&list, &seen) && !list.knows(&kid, &claims.iss) {
            return Err(Refusal::NotTrusted);
        }
        let useless_after = claims.exp.plus(TOKEN_LEEWAY);
        let spent = self.spent.entry(claims.iss.clone()).or_default();
        spent.spend(id, useless_after, self.spent_per_caller, now).map_err(|why| match why {
            NotSpent::Already => Refusal::Spent,
            NotSpent::Full | NotSpent::Forgotten => Refusal::SpentFull,
        })?;
        Ok(Spent { list, kid, claims })
    }

    /// Judges a token and spends it: all three steps.
    ///
    /// # Errors
    /// [`Refusal`]. Only a token that passed every check up to and including the times is spent.
    pub fn admit(&mut self, token: &str, presented: &Presented<'_>, now: UnixTime) -> Result<Granted, Refusal> {
        let examined = self.examiner()?.examine(token, presented, now)?;
        self.spend(examined, now)?.grant(now)
    }
}

/// Checks tokens against one list; knows nothing of spent ones.
#[derive(Clone, Debug)]
pub struct Examiner {
    list: Arc<CheckedList>,
}

impl Examiner {
    /// Checks signature, caller, audience, session, certificate and times.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn examine(&self, token: &str, presented: &Presented<'_>, now: UnixTime) -> Result<Examined, Refusal> {
        let (caller, claims) = authenticate(&self.list, token)?;
        let kid = caller.kid.clone();
        match (caller.kind, presented.kind) {
            (CallerKind::Gateway, StreamKind::Direct) | (CallerKind::Control, StreamKind::Sealed) => {}
            (CallerKind::Gateway, StreamKind::Sealed) | (CallerKind::Control, StreamKind::Direct) => {
                return Err(Refusal::WrongKind);
            }
        }
        // Whoever got hold of another's signing key must also sit in its place.
        if claims.iss != presented.caller {
            return Err(Refusal::WrongCaller);
        }
        // A checked list is this connector's.
        if claims.aud != self.list.list().connector {
            return Err(Refusal::WrongAudience);
        }
        if claims.sid != presented.sid {
            return Err(Refusal::WrongSession);
        }
        if claims.cnf != presented.cnf {
            return Err(Refusal::WrongCertificate);
        }
        check_times(&claims, now)?;
        let id = token_id(&claims.jti).ok_or(Refusal::NotTrusted)?;
        Ok(Examined { list: self.list.clone(), kid, claims, id })
    }
}

/// A token that is its caller's, for this stream and of this moment. It may have been spent before.
#[derive(Debug)]
pub struct Examined {
    list: Arc<CheckedList>,
    kid: String,
    claims: StreamClaims,
    id: TokenId,
}

impl Examined {
    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &str {
        &self.claims.iss
    }
}

/// A token that can never be used again, and the list in use when it was spent.
#[derive(Debug)]
pub struct Spent {
    list: Arc<CheckedList>,
    kid: String,
    claims: StreamClaims,
}

/// A good token that the list does not let pass. For logs: callers are told the refusal alone.
#[derive(Debug)]
pub struct Denied {
    /// What the caller is told.
    pub refusal: Refusal,
    /// What was asked for.
    pub claims: StreamClaims,
    /// The rule that came nearest and why it does not hold, or that there is none.
    pub rule: String,
}

impl Spent {
    /// Asks the list.
    ///
    /// # Errors
    /// [`Refusal::ListExpired`] or [`Refusal::NotAllowed`].
    pub fn grant(self, now: UnixTime) -> Result<Granted, Refusal> {
        self.grant_or_tell(now).map_err(|denied| denied.refusal)
    }

    /// As [`Self::grant`], with what a log needs to know of a refusal.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn grant_or_tell(self, now: UnixTime) -> Result<Granted, Box<Denied>> {
        let Self { list, kid, claims } = self;
        if list.list().not_after < now {
            let rule = "none: the list has ended".to_owned();
            return Err(Box::new(Denied { refusal: Refusal::ListExpired, claims, rule }));
        }
        match passing(list.list(), &claims, now) {
            Some((rule, networks)) => Ok(Granted { kid, rule, claims, networks }),
            None => {
                let rule = nearest(list.list(), &claims, now);
                Err(Box::new(Denied { refusal: Refusal::NotAllowed, claims, rule }))
            }
        }
    }
}

impl CheckedList {
    /// The networks in which a stream that was granted before may lie now; `None` when it, or the key that asked for
    /// it, is on the list no longer, or at this hour not. (A list's own end lets running streams be.)
    #[must_use]
    pub fn still_allows(&self, granted: &Granted, now: UnixTime) -> Option<Vec<IpNetwork>> {
        if !self.knows(&granted.kid, &granted.claims.iss) {
            return None;
        }
        passing(self.list(), &granted.claims, now).map(|(_, networks)| networks)
    }

    /// The moment at which [`Self::still_allows`] may say less than now: hours or an exception end. `None` when only
    /// another list can change it.
    #[must_use]
    pub fn next_change(&self, granted: &Granted, now: UnixTime) -> Option<UnixTime> {
        let asked = question(&granted.claims);
        let holding = self.list().rules.iter().filter(|rule| rule.allows(&asked, now));
        holding.filter_map(|rule| rule.holds_until(now)).min()
    }

    fn knows(&self, kid: &str, caller: &str) -> bool {
        self.by_kid(kid).is_some_and(|(known, _)| known.id == caller)
    }
}

fn authenticate<'a>(list: &'a CheckedList, token: &str) -> Result<(&'a Caller, StreamClaims), Refusal> {
    let jws = Unverified::parse(token, MAX_FRAME, TYP_STREAM).map_err(|_| Refusal::NotTrusted)?;
    if jws.header.jwk.is_some() {
        return Err(Refusal::NotTrusted);
    }
    let (caller, key) = list.by_kid(&jws.header.kid).ok_or(Refusal::NotTrusted)?;
    let claims: StreamClaims = jws.verify(key).map_err(|_| Refusal::NotTrusted)?;
    // It goes into logs and onto people's screens.
    let plain = (1..=MAX_SUB).contains(&claims.sub.len()) && !claims.sub.chars().any(char::is_control);
    if claims.iss != caller.id || !plain {
        return Err(Refusal::NotTrusted);
    }
    Ok((caller, claims))
}

fn check_times(claims: &StreamClaims, now: UnixTime) -> Result<(), Refusal> {
    let life = claims.exp.since(claims.iat);
    if life == 0 || life > MAX_TOKEN_LIFE {
        return Err(Refusal::BadLife { life });
    }
    if claims.iat.since(now) > TOKEN_LEEWAY {
        return Err(Refusal::FromTheFuture { skew: claims.iat.since(now) });
    }
    if now.since(claims.exp) > TOKEN_LEEWAY {
        return Err(Refusal::Expired { skew: now.since(claims.exp) });
    }
    Ok(())
}

fn token_id(jti: &str) -> Option<[u8; 16]> {
    URL_SAFE_NO_PAD.decode(jti).ok()?.try_into().ok()
}

const fn question(claims: &StreamClaims) -> Question<'_> {
    Question { caller: claims.iss.as_str(), resource: Some(&claims.res), target: &claims.tgt }
}

/// In words: the rule that would let these claims pass at another hour, or did so before it ended.
fn nearest(list: &AllowList, claims: &StreamClaims, now: UnixTime) -> String {
    let asked = question(claims);
    let near = list.rules.iter().find_map(|rule| match rule.judge(&asked, now) {
        verdict @ (Verdict::Closed { .. } | Verdict::Over { .. }) => Some(format!("{} {verdict}", rule.name())),
        _ => None,
    });
    near.unwrap_or_else(|| "none: denied by default".to_owned())
}

/// The first rule that lets these claims pass, and the networks of all that do; `None` when there is no such rule.
fn passing(list: &AllowList, claims: &StreamClaims, now: UnixTime) -> Option<(String, Vec<IpNetwork>)> {
    let asked = question(claims);
    let mut rules = list.rules.iter().filter(|rule| rule.allows(&asked, now)).peekable();
    let first = rules.peek()?.name().to_owned();
    Some((first, rules.flat_map(AllowRule::own_networks).collect()))
}
