//! Answers that the gateway gives itself.

use bytes::Bytes;
use pingora::{Result, http::ResponseHeader, proxy::Session};
use sluice_gateway_access::SetCookie;

/// An answer of ours.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: Bytes,
}

/// Nothing may be loaded, framed or run; only our style sheet, and forms to ourselves.
fn content_policy(form_host: Option<&str>) -> String {
    let also = form_host.map(|host| format!(" https://{host}")).unwrap_or_default();
    format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'{also}; base-uri 'none'; frame-ancestors 'none'"
    )
}

impl Answer {
    /// A page. After its form a browser may be sent on to `form_host` (browsers hold redirects against the policy too).
    pub(crate) fn page(status: u16, html: String, form_host: Option<&str>) -> Self {
        let fields = vec![
            ("Content-Type", "text/html; charset=utf-8".to_owned()),
            ("Content-Security-Policy", content_policy(form_host)),
            ("Cross-Origin-Opener-Policy", "same-origin".to_owned()),
            ("X-Frame-Options", "DENY".to_owned()),
            ("Cache-Control", "no-store".to_owned()),
        ];
        Self { status, fields, body: html.into() }
    }

    /// Something that is the same for everybody.
    pub(crate) fn public(kind: &'static str, body: impl Into<Bytes>) -> Self {
        let fields = vec![("Content-Type", kind.to_owned()), ("Cache-Control", "public, max-age=300".to_owned())];
        Self { status: 200, fields, body: body.into() }
    }

    /// Go there, by GET.
    pub(crate) fn redirect(location: String) -> Self {
        Self {
            status: 303,
            fields: vec![("Location", location), ("Cache-Control", "no-store".to_owned())],
            body: Bytes::new(),
        }
    }

    pub(crate) fn with_cookie(mut self, cookie: &SetCookie) -> Self {
        self.fields.push(("Set-Cookie", cookie.to_field()));
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Sends it. What the client may still send of its request is not waited for.
    pub(crate) async fn send(self, session: &mut Session) -> Result<()> {
        let Self { status, fields, body } = self;
        let mut header = ResponseHeader::build(status, Some(fields.len().saturating_add(6)))?;
        for (name, value) in fields {
            header.append_header(name, value)?;
        }
        header.insert_header("Content-Length", body.len().to_string())?;
        header.insert_header("X-Content-Type-Options", "nosniff")?;
        // Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
        header.insert_header("Referrer-Policy", "same-origin")?;
        header.insert_header("Strict-Transport-Security", "max-age=31536000")?;
        if !session.is_body_done() {
            session.set_keepalive(None);
        }
        let headless = session.req_header().method == http::Method::HEAD || body.is_empty();
        session.write_response_header(Box::new(header), headless).await?;
        if !headless {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(())
    }
}
