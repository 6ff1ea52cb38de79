//! The login flow, step by step.
//!
//! 1. [`Plan::begin`]: an app host without a session sends the browser to the login host with a sealed [`ReturnTo`],
//!    bound to a nonce cookie that this browser got on the app host.
//! 2. [`Plan::login_page`] and [`Plan::check_form`]: the form carries a token bound to a cookie on the login host.
//! 3. [`Plan::complete`]: control has verified the factors; a new session begins on the login host.
//! 4. [`Plan::hand_over`]: a code for exactly one app host and one browser, 30 s, once.
//! 5. [`Plan::enter`]: the app host takes the code and sets its own cookie.
//!
//! Every address that a browser is sent to is `https://` + a host of the plan + a path: an open redirect cannot be said.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sluice_node_identity::{UnixTime, api::VerifiedUser};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::{
    App, CODE_SECONDS, CodeRefused, Cookies, LOGIN_COOKIE, MAX_COOKIE, NONCE_COOKIE, Plan, Randomness, SESSION_COOKIE,
    Session, SessionId, SetCookie, SpentCodes, Strength, seal::Purpose,
};

/// Seconds a browser may take from the app's door to the end of the login form.
pub const LOGIN_SECONDS: u64 = 600;
const MAX_PATH: usize = 2_048;
/// Path on every app host that takes hand-over codes.
const ENTER_PATH: &str = "/.sluice/enter";

/// Why a step is not taken. What the user can do is start again.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FlowRefused {
    /// Not sealed by us, for another host, or older than its life.
    #[error("this sign-in step is not valid any more; open the app again")]
    Broken,
    /// The browser is not the one that began.
    #[error("this sign-in was begun in another browser; open the app again")]
    Browser,
    /// The app is not served here any more.
    #[error("this app is not served here any more; ask your administrator")]
    Gone,
    /// See [`CodeRefused`].
    #[error(transparent)]
    Code(#[from] CodeRefused),
    /// The session does not fit into a cookie.
    #[error("your account is in too many groups to sign in here; ask your administrator")]
    TooLarge,
}

/// Where a browser goes after logging in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnTo {
    host: String,
    path: String,
    nonce: String,
    at: UnixTime,
}

impl ReturnTo {
    /// The app host it leads to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// First answer: go to the login host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// `Location`.
    pub location: String,
    /// To be set on the app host.
    pub cookie: SetCookie,
}

/// What the login form needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPage {
    /// Hidden field that proves that the form is ours.
    pub form_token: String,
    /// To be set on the login host.
    pub cookie: SetCookie,
}

/// A finished login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The new session.
    pub session: Session,
    /// To be set on the login host.
    pub cookie: SetCookie,
}

/// A browser that has come back to its app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The session, the same as on the login host.
    pub session: Session,
    /// `Location`: what the browser first asked for.
    pub location: String,
    /// To be set on the app host.
    pub cookie: SetCookie,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    id: [u8; 16],
    session: Session,
    path: String,
    at: UnixTime,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    at: UnixTime,
}

impl Plan {
    /// Sends a browser that wants `path` of `app` to the login host. A well-formed nonce cookie is kept, so that
    /// several tabs can log in side by side.
    ///
    /// # Errors
    /// [`FlowRefused::Broken`] when sealing fails.
    pub fn begin(
        &self,
        app: &App,
        path: &str,
        cookies: &Cookies<'_>,
        now: UnixTime,
        random: &mut dyn Randomness,
    ) -> Result<Begun, FlowRefused> {
        let nonce = browser_mark(cookies.value(NONCE_COOKIE), random);
        let to = ReturnTo { host: app.host.clone(), path: safe_path(path), nonce: nonce.clone(), at: now };
        let sealed = self
            .sealer
            .seal(Purpose::Return, &self.login_host, "", &to, now, random)
            .map_err(|_| FlowRefused::Broken)?;
        Ok(Begun {
            location: format!("https://{}/login?return={sealed}", self.login_host),
            cookie: SetCookie { name: NONCE_COOKIE, value: nonce, max_age: LOGIN_SECONDS },
        })
    }

    /// Reads the `return` parameter of the login host.
    ///
    /// # Errors
    /// [`FlowRefused::Broken`] or [`FlowRefused::Gone`].
    pub fn return_to(&self, sealed: &str, now: UnixTime) -> Result<ReturnTo, FlowRefused> {
        let to: ReturnTo =
            self.sealer.open(Purpose::Return, &self.login_host, "", sealed, now).map_err(|_| FlowRefused::Broken)?;
        if to.at > now || now.since(to.at) >= LOGIN_SECONDS {
            return Err(FlowRefused::Broken);
        }
        if self.app(&to.host).is_none() {
            return Err(FlowRefused::Gone);
        }
        Ok(to)
    }

    /// What a form on the login host (login, logout) needs.
    ///
    /// # Errors
    /// [`FlowRefused::Broken`] when sealing fails.
    pub fn login_page(
        &self,
        cookies: &Cookies<'_>,
        now: UnixTime,
        random: &mut dyn Randomness,
    ) -> Result<LoginPage, FlowRefused> {
        let mark = browser_mark(cookies.value(LOGIN_COOKIE), random);
        let form_token = self
            .sealer
            .seal(Purpose::Form, &self.login_host, &mark, &Form { at: now }, now, random)
            .map_err(|_| FlowRefused::Broken)?;
        Ok(LoginPage { form_token, cookie: SetCookie { name: LOGIN_COOKIE, value: mark, max_age: LOGIN_SECONDS } })
    }

    /// Whether a posted form came from [`Plan::login_page`] in this browser.
    ///
    /// # Errors
    /// [`FlowRefused::Broken`] or [`FlowRefused::Browser`].
    pub fn check_form(&self, token: &str, cookies: &Cookies<'_>, now: UnixTime) -> Result<(), FlowRefused> {
        let mark = cookies.value(LOGIN_COOKIE).filter(|mark| is_mark(mark)).ok_or(FlowRefused::Browser)?;
        let form: Form =
            self.sealer.open(Purpose::Form, &self.login_host, mark, token, now).map_err(|_| FlowRefused::Broken)?;
        if form.at > now || now.since(form.at) >= LOGIN_SECONDS {
            return Err(FlowRefused::Broken);
        }
        Ok(())
    }

    /// Begins a session for a user whom control has verified. Its id is always new: a session that an attacker put
    /// into the browser before is not continued.
    ///
    /// # Errors
    /// [`FlowRefused::TooLarge`] or [`FlowRefused::Broken`].
    pub fn complete(
        &self,
        user: VerifiedUser,
        now: UnixTime,
        random: &mut dyn Randomness,
    ) -> Result<Completed, FlowRefused> {
        let session = Session {
            id: SessionId::new(random.bytes16()),
            user: user.user,
            email: user.email,
            display_name: user.display_name,
            groups: user.groups,
            strength: Strength::Password,
            issued: now,
            expires: now.plus(self.session_seconds),
        };
        let cookie = self.session_cookie(&self.login_host, &session, now, random)?;
        Ok(Completed { session, cookie })
    }

    /// `Location` that carries `session` over to the app of `to`.
    ///
    /// # Errors
    /// [`FlowRefused::Broken`] when sealing fails.
    pub fn hand_over(
        &self,
        to: &ReturnTo,
        session: &Session,
        now: UnixTime,
        random: &mut dyn Randomness,
    ) -> Result<String, FlowRefused> {
        let code = Code { id: random.bytes16(), session: session.clone(), path: to.path.clone(), at: now };
        let sealed = self
            .sealer
            .seal(Purpose::Code, &to.host, &to.nonce, &code, now, random)
            .map_err(|_| FlowRefused::Broken)?;
        Ok(format!("https://{}{ENTER_PATH}?code={sealed}", to.host))
    }

    /// Takes a hand-over code on `host`.
    ///
    /// # Errors
    /// [`FlowRefused`]; a code of another host or browser cannot be told from one that was made up.
    pub fn enter(
        &self,
        host: &str,
        code: &str,
        cookies: &Cookies<'_>,
        spent: &mut SpentCodes,
        now: UnixTime,
        random: &mut dyn Randomness,
    ) -> Result<Entered, FlowRefused> {
        if self.app(host).is_none() {
            return Err(FlowRefused::Gone);
        }
        let nonce = cookies.value(NONCE_COOKIE).filter(|mark| is_mark(mark)).ok_or(FlowRefused::Browser)?;
        let code: Code = self.sealer.open(Purpose::Code, host, nonce, code, now).map_err(|_| FlowRefused::Broken)?;
        if !code.session.is_running(now) {
            return Err(FlowRefused::Broken);
        }
        spent.spend(code.id, code.at, now)?;
        let cookie = self.session_cookie(host, &code.session, now, random)?;
        Ok(Entered { cookie, location: format!("https://{host}{}", safe_path(&code.path)), session: code.session })
    }

    /// The session in the cookies that `host` got. Whether it was taken back is [`crate::standing`]'s to say.
    #[must_use]
    pub fn session(&self, host: &str, cookies: &Cookies<'_>, now: UnixTime) -> Option<Session> {
        let text = cookies.value(SESSION_COOKIE)?;
        let session: Session = self.sealer.open(Purpose::Session, host, "", text, now).ok()?;
        session.is_running(now).then_some(session)
    }

    /// Path on every app host that takes hand-over codes.
    #[must_use]
    pub const fn enter_path() -> &'static str {
        ENTER_PATH
    }

    fn session_cookie(
        &self,
        host: &str,
        session: &Session,
        now: UnixTime,
        random: &mut dyn Randomness,
    ) -> Result<SetCookie, FlowRefused> {
        let value =
            self.sealer.seal(Purpose::Session, host, "", session, now, random).map_err(|_| FlowRefused::Broken)?;
        if value.len() > MAX_COOKIE {
            return Err(FlowRefused::TooLarge);
        }
        Ok(SetCookie { name: SESSION_COOKIE, value, max_age: session.expires.since(now) })
    }
}

/// 128 random bits that name a browser for the time of a login; the one it has, or a new one.
fn browser_mark(present: Option<&str>, random: &mut dyn Randomness) -> String {
    match present {
        Some(mark) if is_mark(mark) => mark.to_owned(),
        _ => URL_SAFE_NO_PAD.encode(random.bytes16()),
    }
}

fn is_mark(text: &str) -> bool {
    let all_zero = || bool::from(text.as_bytes().ct_eq(URL_SAFE_NO_PAD.encode([0; 16]).as_bytes()));
    text.len() == 22 && URL_SAFE_NO_PAD.decode(text).is_ok() && !all_zero()
}

/// An origin-form target that cannot leave its host; anything else becomes `/`.
fn safe_path(path: &str) -> String {
    let plain = path.bytes().all(|b| (0x21..0x7f).contains(&b) && !matches!(b, b'\\' | b'"' | b'<' | b'>' | b'#'));
    if plain && path.starts_with('/') && !path.starts_with("//") && path.len() <= MAX_PATH {
        path.to_owned()
    } else {
        "/".to_owned()
    }
}

// A code lives shorter than the login that it ends.
const _: () = assert!(CODE_SECONDS < LOGIN_SECONDS);

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
