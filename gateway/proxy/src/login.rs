//! The login host.

use std::{sync::Arc, time::Duration};

use http::Method;
use pingora::{Result, proxy::Session as Exchange};
use sluice_gateway_access::{Cookies, FlowRefused, Plan, ReturnTo, SESSION_COOKIE, Session, SetCookie, permit};
use sluice_node_identity::api::VerifyFactor;

use crate::{
    connection::Facts,
    doors::FactorsRefused,
    limits::{LOGIN_WAIT, LoginLimits},
    pages::{self, Home, Login, Message},
    respond::Answer,
    sign_on::{SignOn, SystemSource, now},
};

const MAX_FORM: usize = 16 * 1024;
const MAX_LOGIN: usize = 256;
const MAX_PASSWORD: usize = 1_024;

/// Answers requests for the login host.
pub(crate) struct LoginDoor {
    sign_on: Arc<SignOn>,
    limits: LoginLimits,
    form_time: Duration,
}

/// One request on the login host.
struct Visit<'a> {
    plan: &'a Plan,
    cookies: Cookies<'a>,
    facts: &'a Facts,
}

#[derive(Default)]
struct Form {
    form_token: String,
    return_to: String,
    login: String,
    password: String,
}

impl LoginDoor {
    pub(crate) fn new(sign_on: Arc<SignOn>, limits: &crate::Limits) -> Self {
        Self { sign_on, limits: LoginLimits::new(limits), form_time: limits.handshake }
    }

    pub(crate) async fn answer(&self, exchange: &mut Exchange, plan: &Plan, facts: &Facts) -> Result<()> {
        let header = exchange.req_header();
        let (method, path) = (header.method.clone(), header.uri.path().to_owned());
        let query = header.uri.query().unwrap_or_default().to_owned();
        let fields = cookie_fields(header);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let visit = Visit { plan, cookies: Cookies::new(&fields), facts };
        let is_read = matches!(method, Method::GET | Method::HEAD);
        let answer = match path.as_str() {
            "/" if is_read => self.home(&visit),
            "/login" if is_read => self.form(&visit, &parameter(&query, "return")),
            "/login" | "/logout" if method == Method::POST => {
                if foreign_origin(exchange, plan.login_host()) {
                    pages::message(403, "Not allowed", "This form was sent from another site.")
                } else {
                    match self.read_form(exchange).await {
                        None => {
                            pages::message(400, "Not understood", "The form could not be read; go back and try again.")
                        }
                        Some(form) if path == "/login" => self.log_in(&visit, form).await,
                        Some(form) => self.log_out(&visit, &form).await,
                    }
                }
            }
            "/logout" if is_read => self.home(&visit),
            "/.well-known/jwks.json" if is_read => {
                Answer::public("application/jwk-set+json", self.sign_on.parts.assertion_key.jwks())
            }
            pages::STYLE_PATH if is_read => Answer::public("text/css; charset=utf-8", pages::STYLE),
            "/" | "/login" | "/logout" => pages::message(405, "Not allowed", "This page cannot be used in this way."),
            _ => pages::message(404, "Not found", "There is nothing at this address."),
        };
        answer.send(exchange).await
    }

    /// The apps of somebody who is logged in; the form for everybody else.
    fn home(&self, visit: &Visit<'_>) -> Answer {
        let Some(session) = self.sign_on.session(visit.plan, visit.plan.login_host(), &visit.cookies) else {
            return self.form(visit, "");
        };
        let apps = visit.plan.apps().filter(|app| permit(app, session.clone()).is_ok());
        let apps = apps.map(|app| (app.name.as_str(), app.host.as_str())).collect();
        match visit.plan.login_page(&visit.cookies, now(), &mut SystemSource) {
            Ok(page) => {
                let home = Home { name: &session.display_name, apps, form_token: &page.form_token };
                pages::answer(200, &home, None).with_cookie(&page.cookie)
            }
            Err(refused) => broken(refused),
        }
    }

    /// The form, or straight on for somebody who is logged in.
    fn form(&self, visit: &Visit<'_>, sealed: &str) -> Answer {
        let to = match read_return(visit.plan, sealed) {
            Ok(to) => to,
            Err(refused) => return broken(refused),
        };
        match (self.sign_on.session(visit.plan, visit.plan.login_host(), &visit.cookies), to) {
            (Some(session), Some(to)) => self.hand_over(visit.plan, &to, &session),
            (Some(_), None) => Answer::redirect(format!("https://{}/", visit.plan.login_host())),
            (None, to) => show_form(visit, 200, sealed, to.as_ref(), "", ""),
        }
    }

    fn hand_over(&self, plan: &Plan, to: &ReturnTo, session: &Session) -> Answer {
        if !self.sign_on.parts.factors.may_grant() {
            return unavailable();
        }
        match plan.hand_over(to, session, now(), &mut SystemSource) {
            Ok(location) => Answer::redirect(location),
            Err(refused) => broken(refused),
        }
    }

    async fn log_in(&self, visit: &Visit<'_>, form: Form) -> Answer {
        let plan = visit.plan;
        if let Err(refused) = plan.check_form(&form.form_token, &visit.cookies, now()) {
            return broken(refused);
        }
        let to = match read_return(plan, &form.return_to) {
            Ok(to) => to,
            Err(refused) => return broken(refused),
        };
        let client = visit.facts.client.ip();
        let again = |status, problem| show_form(visit, status, &form.return_to, to.as_ref(), problem, &form.login);
        if form.login.is_empty() || form.login.len() > MAX_LOGIN || form.password.len() > MAX_PASSWORD {
            return again(401, WRONG);
        }
        if !self.limits.allow(client, &form.login) {
            return again(429, TOO_MANY).with("Retry-After", LOGIN_WAIT.as_secs().to_string());
        }
        if !self.sign_on.parts.factors.may_grant() {
            return unavailable();
        }
        let factor = VerifyFactor { login: form.login.clone(), password: form.password.clone(), client };
        match self.sign_on.parts.factors.verify(&factor).await {
            Err(FactorsRefused::Wrong) => again(401, WRONG),
            Err(FactorsRefused::TooMany { retry_after }) => {
                again(429, TOO_MANY).with("Retry-After", retry_after.to_string())
            }
            Err(FactorsRefused::Unavailable) => unavailable(),
            Ok(user) => {
                let old = self.sign_on.session(plan, plan.login_host(), &visit.cookies);
                match plan.complete(user, now(), &mut SystemSource) {
                    Err(refused) => broken(refused),
                    Ok(done) => {
                        // A new login in the same browser replaces the old session everywhere.
                        if let Some(old) = old {
                            self.sign_on.log_out(&old).await;
                        }
                        tracing::info!(session = %done.session.id, "a user has signed in");
                        let home = || Answer::redirect(format!("https://{}/", plan.login_host()));
                        to.map_or_else(home, |to| self.hand_over(plan, &to, &done.session)).with_cookie(&done.cookie)
                    }
                }
            }
        }
    }

    async fn log_out(&self, visit: &Visit<'_>, form: &Form) -> Answer {
        if let Err(refused) = visit.plan.check_form(&form.form_token, &visit.cookies, now()) {
            return broken(refused);
        }
        if let Some(session) = self.sign_on.session(visit.plan, visit.plan.login_host(), &visit.cookies) {
            self.sign_on.log_out(&session).await;
            tracing::info!(session = %session.id, "a user has signed out");
        }
        let page =
            Message { title: "Signed out", text: "You are signed out of all apps.", link: ("/login", "Sign in again") };
        pages::answer(200, &page, None).with_cookie(&SetCookie::removal(SESSION_COOKIE))
    }

    /// At most [`MAX_FORM`] bytes in `form_time`.
    async fn read_form(&self, exchange: &mut Exchange) -> Option<Form> {
        let kind = exchange.get_header("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
            return None;
        }
        let read = async {
            let mut body = Vec::new();
            while let Ok(part) = exchange.read_request_body().await {
                let Some(part) = part else { return Some(body) };
                if body.len().saturating_add(part.len()) > MAX_FORM {
                    return None;
                }
                body.extend_from_slice(&part);
            }
            None
        };
        let body = tokio::time::timeout(self.form_time, read).await.ok()??;
        let mut form = Form::default();
        for (name, value) in form_urlencoded::parse(&body) {
            let place = match name.as_ref() {
                "form_token" => &mut form.form_token,
                "return" => &mut form.return_to,
                "login" => &mut form.login,
                "password" => &mut form.password,
                _ => return None,
            };
            if !place.is_empty() {
                return None;
            }
            *place = value.into_owned();
        }
        Some(form)
    }
}

const WRONG: &str = "Name or password is not right.";
const TOO_MANY: &str = "Too many tries. Wait a minute and try again.";

fn unavailable() -> Answer {
    let text = "Signing in is not available at this moment. Apps that you have opened go on working. Try again later.";
    pages::message(503, "Not available", text).with("Retry-After", "30".to_owned())
}

fn broken(refused: FlowRefused) -> Answer {
    pages::message(400, "Start again", &capital(&refused.to_string()))
}

/// A sentence for people from an error's text.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

fn show_form(
    visit: &Visit<'_>,
    status: u16,
    sealed: &str,
    to: Option<&ReturnTo>,
    problem: &str,
    login: &str,
) -> Answer {
    match visit.plan.login_page(&visit.cookies, now(), &mut SystemSource) {
        Err(refused) => broken(refused),
        Ok(page) => {
            let host = to.map(ReturnTo::host);
            let destination = host.and_then(|host| visit.plan.app(host)).map_or("", |app| app.name.as_str());
            let form = Login { problem, form_token: &page.form_token, return_to: sealed, login, destination };
            pages::answer(status, &form, host).with_cookie(&page.cookie)
        }
    }
}

/// No `return` is fine; a broken one is not.
fn read_return(plan: &Plan, sealed: &str) -> Result<Option<ReturnTo>, FlowRefused> {
    if sealed.is_empty() { Ok(None) } else { plan.return_to(sealed, now()).map(Some) }
}

/// The one query parameter of that name, decoded; empty when there is none.
pub(crate) fn parameter(query: &str, name: &str) -> String {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// All `Cookie` fields that are text.
pub(crate) fn cookie_fields(header: &pingora::http::RequestHeader) -> Vec<String> {
    header
        .headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect()
}

/// Whether a browser says that another site made it send this.
pub(crate) fn foreign_origin(exchange: &Exchange, host: &str) -> bool {
    exchange.get_header("origin").is_some_and(|origin| {
        let ours = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
        // A port may follow: sites on other ports of our own host are ours.
        ours.is_none_or(|at| at.split(':').next() != Some(host))
    })
}
