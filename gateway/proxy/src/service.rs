//! Each request of a user: judged, signed on, and passed to its app.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, ProxyHttp, Session as Exchange},
    upstreams::peer::HttpPeer,
};
use rustls::RootCertStore;
use sluice_gateway_access::{
    ASSERTION_HEADER, App, Assertion, Cookies, Permitted, Plan, Randomness, Upstream, header_ambiguity, may_set_cookie,
    permit, removed_from_request,
};

use crate::{
    Limits, Parts, Settings,
    connection::Facts,
    failure,
    live::LiveGuard,
    login::{LoginDoor, capital, cookie_fields, foreign_origin, parameter},
    pages,
    respond::Answer,
    sign_on::{SignOn, SystemSource, now},
    upstream::Upstreams,
};

/// The engine's view of us.
pub(crate) struct AppDoor {
    sign_on: Arc<SignOn>,
    login: LoginDoor,
    upstreams: Upstreams,
    limits: Limits,
}

/// One request.
#[derive(Default)]
pub(crate) struct Passing {
    right: Option<Right>,
}

/// What lets a request pass: without it nothing is sent anywhere.
struct Right {
    permitted: Permitted<App>,
    assertion: String,
    client: String,
    _live: LiveGuard,
}

impl AppDoor {
    pub(crate) fn new(
        settings: &Settings,
        sign_on: Arc<SignOn>,
        login: LoginDoor,
        roots: Arc<RootCertStore>,
    ) -> anyhow::Result<Self> {
        let parts: &Parts = &sign_on.parts;
        let upstreams = Upstreams::new(settings, parts.direct.clone(), parts.node.clone(), roots)?;
        Ok(Self { sign_on, login, upstreams, limits: settings.limits.clone() })
    }

    /// An answer of ours, or the right to pass.
    async fn judge(&self, exchange: &mut Exchange, facts: &Arc<Facts>) -> Result<Option<Right>> {
        let Some(plan) = self.sign_on.plan() else {
            let text = "This gateway has no configuration yet; try again in a minute.";
            return refuse(exchange, pages::message(503, "Not ready", text)).await;
        };
        if let Some(ambiguity) = ambiguity(exchange.req_header()) {
            return refuse(exchange, pages::message(400, "Not understood", &capital(&ambiguity.to_string()))).await;
        }
        // One connection may carry requests for other names (RFC 9113 §9.1.1); ours may not: 421 (RFC 9110 §15.5.20).
        if named_host(exchange.req_header()).as_deref() != Some(facts.host.as_str()) {
            let text = "This connection was made for another host; connect again.";
            return refuse(exchange, pages::message(421, "Wrong host", text)).await;
        }
        if facts.host == plan.login_host() {
            self.login.answer(exchange, &plan, facts).await?;
            return Ok(None);
        }
        let Some(app) = plan.app(&facts.host) else {
            let text = "This host is not served here any more; ask your administrator.";
            return refuse(exchange, pages::message(421, "Not served here", text)).await;
        };
        if exchange.req_header().uri.path().starts_with("/.sluice/") {
            let answer = self.own_path(exchange.req_header(), &plan, facts);
            return refuse(exchange, answer).await;
        }
        self.sign_in(exchange, &plan, app, facts).await
    }

    /// Paths under `/.sluice/` are the gateway's on every app host.
    fn own_path(&self, header: &RequestHeader, plan: &Plan, facts: &Facts) -> Answer {
        let fields = cookie_fields(header);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let cookies = Cookies::new(&fields);
        match (&header.method, header.uri.path()) {
            (&Method::GET | &Method::HEAD, pages::STYLE_PATH) => {
                Answer::public("text/css; charset=utf-8", pages::STYLE)
            }
            (&Method::GET, "/.sluice/logout") => Answer::redirect(format!("https://{}/logout", plan.login_host())),
            (&Method::GET, path) if path == Plan::enter_path() => {
                let code = parameter(header.uri.query().unwrap_or_default(), "code");
                match self.sign_on.enter(plan, &facts.host, &code, &cookies) {
                    Ok(entered) => Answer::redirect(entered.location).with_cookie(&entered.cookie),
                    // A reload of the last step, with the session there already, is no reason for alarm.
                    Err(_) if self.sign_on.session(plan, &facts.host, &cookies).is_some() => {
                        Answer::redirect(format!("https://{}/", facts.host))
                    }
                    Err(refused) => {
                        let page = pages::Message {
                            title: "Start again",
                            text: &capital(&refused.to_string()),
                            link: ("/", "Open the app"),
                        };
                        pages::answer(400, &page, None)
                    }
                }
            }
            _ => pages::message(404, "Not found", "There is nothing at this address."),
        }
    }

    async fn sign_in(
        &self,
        exchange: &mut Exchange,
        plan: &Plan,
        app: &App,
        facts: &Arc<Facts>,
    ) -> Result<Option<Right>> {
        let header = exchange.req_header();
        let fields = cookie_fields(header);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let cookies = Cookies::new(&fields);
        let Some(session) = self.sign_on.session(plan, &facts.host, &cookies) else {
            let answer = if is_navigation(header) {
                let path = header.uri.path_and_query().map_or("/", |path| path.as_str());
                match plan.begin(app, path, &cookies, now(), &mut SystemSource) {
                    Ok(begun) => Answer::redirect(begun.location).with_cookie(&begun.cookie),
                    Err(refused) => pages::message(500, "Start again", &capital(&refused.to_string())),
                }
            } else {
                pages::message(
                    401,
                    "Sign in first",
                    "Your session is over or was never there; open the app in a browser again.",
                )
            };
            return refuse(exchange, answer).await;
        };
        // A page of another app shares our site, so its script could open a socket here with the user's cookie.
        if header.headers.contains_key(header::UPGRADE) && foreign_origin(exchange, &facts.host) {
            return refuse(exchange, pages::message(403, "Not allowed", "This was asked for by another site.")).await;
        }
        let permitted = match permit(app, session) {
            Ok(permitted) => permitted,
            Err(denied) => {
                return refuse(exchange, pages::message(403, "Not allowed", &capital(&denied.to_string()))).await;
            }
        };
        let assertion = Assertion::about(plan, &permitted, SystemSource.bytes16(), now());
        let assertion = self
            .sign_on
            .parts
            .assertion_key
            .sign(&assertion)
            .map_err(|error| Error::because(ErrorType::InternalError, "signing the assertion", error))?;
        let live = self.sign_on.live.enter(permitted.session().clone(), permitted.app().id.clone(), facts.clone());
        let client = facts.client.ip().to_canonical().to_string();
        Ok(Some(Right { permitted, assertion, client, _live: live }))
    }
}

async fn refuse(exchange: &mut Exchange, answer: Answer) -> Result<Option<Right>> {
    answer.send(exchange).await?;
    Ok(None)
}

/// HTTP/1.1 heads were judged as bytes before; this is for HTTP/2, and does no harm to the others.
fn ambiguity(header: &RequestHeader) -> Option<sluice_gateway_access::HeadError> {
    if header.version != http::Version::HTTP_2 {
        return None;
    }
    let path_ok = header.raw_path().iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#');
    if !path_ok || !header.raw_path().starts_with(b"/") {
        return Some(sluice_gateway_access::HeadError::RequestLine);
    }
    header_ambiguity(header.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The host that a request is for, without its port; none when two places name different ones.
fn named_host(header: &RequestHeader) -> Option<String> {
    let plain = |text: &str| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "443"));
        port.parse::<u16>().is_ok().then(|| host.to_ascii_lowercase())
    };
    let mut fields = header.headers.get_all(header::HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => Some(plain(field.to_str().ok()?)?),
        (None, _) => None,
        (Some(_), Some(_)) => return None,
    };
    let authority = match header.uri.authority() {
        Some(authority) => Some(plain(authority.as_str())?),
        None => None,
    };
    match (field, authority) {
        (Some(field), Some(authority)) => (field == authority).then_some(field),
        (field, authority) => field.or(authority),
    }
}

/// Whether a browser asks for a page, so that it can be sent to log in.
fn is_navigation(header: &RequestHeader) -> bool {
    let mode = header.headers.get("sec-fetch-mode").and_then(|mode| mode.to_str().ok());
    matches!(header.method, Method::GET | Method::HEAD)
        && !header.headers.contains_key(header::UPGRADE)
        && mode.is_none_or(|mode| mode == "navigate")
}

#[async_trait]
impl ProxyHttp for AppDoor {
    type CTX = Passing;

    fn new_ctx(&self) -> Passing {
        Passing::default()
    }

    async fn request_filter(&self, exchange: &mut Exchange, passing: &mut Passing) -> Result<bool> {
        let facts = Facts::of(exchange)
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "a connection without facts"))?;
        facts.note_request();
        // The engine bounds neither over HTTP/2: a client that grants no window would hold its place for ever.
        exchange.set_write_timeout(Some(self.limits.write));
        exchange.set_total_drain_timeout(Some(self.limits.handshake));
        passing.right = self.judge(exchange, &facts).await?;
        Ok(passing.right.is_none())
    }

    async fn upstream_peer(&self, _exchange: &mut Exchange, passing: &mut Passing) -> Result<Box<HttpPeer>> {
        self.upstreams.peer(&right(passing)?.permitted).await
    }

    async fn upstream_request_filter(
        &self,
        _exchange: &mut Exchange,
        request: &mut RequestHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        let Right { permitted, assertion, client, .. } = right(passing)?;
        let app = permitted.app();
        let ours = app.user_header.as_deref();
        let names = request.headers.keys().filter(|name| removed_from_request(name.as_str(), ours));
        for name in names.cloned().collect::<Vec<_>>() {
            request.remove_header(&name);
        }
        let fields = cookie_fields(request);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        request.remove_header(&header::COOKIE);
        if let Some(cookies) = Cookies::new(&fields).for_app() {
            request.insert_header(header::COOKIE, cookies)?;
        }
        request.insert_header(header::HOST, host_for(app))?;
        request.insert_header("X-Forwarded-For", client.as_str())?;
        request.insert_header("X-Forwarded-Host", app.host.as_str())?;
        request.insert_header("X-Forwarded-Proto", "https")?;
        request.insert_header(ASSERTION_HEADER, assertion.as_str())?;
        if let Some(name) = &app.user_header {
            request.insert_header(name.clone(), permitted.session().user.as_str())?;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _exchange: &mut Exchange,
        response: &mut ResponseHeader,
        _passing: &mut Passing,
    ) -> Result<()> {
        let cookies: Vec<_> = response.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        let allowed = |cookie: &http::HeaderValue| cookie.to_str().is_ok_and(may_set_cookie);
        if !cookies.iter().all(allowed) {
            response.remove_header(&header::SET_COOKIE);
            for cookie in cookies.into_iter().filter(allowed) {
                response.append_header(header::SET_COOKIE, cookie)?;
            }
        }
        // Would send browsers around this gateway.
        response.remove_header("Alt-Svc");
        Ok(())
    }

    async fn fail_to_proxy(&self, exchange: &mut Exchange, error: &Error, _passing: &mut Passing) -> FailToProxy {
        let gone = matches!(error.esource(), ErrorSource::Downstream)
            && matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed);
        let (status, page) = failure::answer(error);
        if !gone && exchange.response_written().is_none() {
            exchange.set_keepalive(None);
            if let Err(error) = page.send(exchange).await {
                tracing::trace!(%error, "the browser did not wait for the answer");
            }
        }
        FailToProxy { error_code: if gone { 0 } else { status }, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _exchange: &Exchange, _passing: &Passing, _error: &Error) -> bool {
        // The engine knows only ERROR, and no address of an app belongs there; `logging` tells it at its level.
        true
    }

    async fn logging(&self, exchange: &mut Exchange, error: Option<&Error>, passing: &mut Passing) {
        let app = passing.right.as_ref().map(|right| right.permitted.app().id.to_string());
        let status = exchange.response_written().map_or(0, |response| response.status.as_u16());
        match error {
            Some(error) if !matches!(error.esource(), ErrorSource::Downstream) => {
                tracing::warn!(app, status, kind = error.root_etype().as_str(), "an app could not be reached");
                tracing::debug!(%error, "why");
            }
            _ => tracing::debug!(app, status, "request done"),
        }
    }
}

fn right(passing: &Passing) -> Result<&Right> {
    passing.right.as_ref().ok_or_else(|| Error::explain(ErrorType::InternalError, "a request without a right"))
}

/// The `Host` that the app expects.
fn host_for(app: &App) -> String {
    match &app.upstream {
        Upstream::Resource { host_header: Some(host), .. } => host.clone(),
        Upstream::Control { server_name, .. } => server_name.clone(),
        Upstream::Direct { .. } | Upstream::Resource { .. } => app.host.clone(),
    }
}
