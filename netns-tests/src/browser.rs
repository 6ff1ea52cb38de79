//! A user at a browser: `curl` with a cookie jar, and just enough HTML to fill in forms.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{process::run, topology::Ns};

/// Longest wait for one page, redirects included.
const PAGE: Duration = Duration::from_secs(60);

/// One user's browser.
#[derive(Debug)]
pub struct Browser {
    ns: Ns,
    folder: PathBuf,
    authorities: PathBuf,
}

/// A page as it arrived, after redirects.
#[derive(Clone, Debug)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Where the redirects ended.
    pub url: String,
    /// How many redirects were followed.
    pub redirects: u32,
    /// Body.
    pub body: String,
}

/// A form of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Absolute URL it is sent to.
    pub action: String,
    /// Prefilled fields, in order.
    pub fields: Vec<(String, String)>,
}

impl Browser {
    /// A browser without cookies in `ns`; it trusts only `authorities` (PEM). `folder` becomes its own.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(ns: &Ns, folder: &Path, authorities: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { ns: ns.clone(), folder: folder.to_owned(), authorities: authorities.to_owned() })
    }

    /// Opens a page, following redirects.
    ///
    /// # Errors
    /// No page came: name, connection, TLS or time.
    pub fn open(&self, url: &str) -> Result<Page> {
        self.fetch(url, &[])
    }

    /// Sends a form with some fields filled in.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn send(&self, form: &Form, filled: &[(&str, &str)]) -> Result<Page> {
        let kept = form.fields.iter().filter(|(name, _)| !filled.iter().any(|(other, _)| other == name));
        let mut fields: Vec<(String, String)> = kept.cloned().collect();
        fields.extend(filled.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.fetch(&form.action, &fields)
    }

    fn fetch(&self, url: &str, fields: &[(String, String)]) -> Result<Page> {
        let (jar, body) = (self.folder.join("cookies"), self.folder.join("body"));
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "-L", "--max-redirs", "12", "-m", "50", "--compressed", "--cacert"]).arg(&self.authorities);
        curl.arg("-b").arg(&jar).arg("-c").arg(&jar).arg("-o").arg(&body);
        curl.args(["-w", "%{http_code} %{num_redirects} %{url_effective}"]);
        let origin = origin(url);
        for (number, (name, value)) in fields.iter().enumerate() {
            // By file, so that passwords stay out of the process list.
            let file = self.folder.join(format!("field-{number}"));
            let mut open = fs::OpenOptions::new();
            open.create(true).truncate(true).write(true).mode(0o600).open(&file)?.write_all(value.as_bytes())?;
            curl.arg("--data-urlencode").arg(format!("{name}@{}", file.display()));
        }
        if !fields.is_empty() {
            curl.args(["-H", &format!("Origin: {origin}"), "-H", &format!("Referer: {url}")]);
        }
        let _absent = fs::remove_file(&body);
        let ended = run(curl.arg(url), PAGE)?;
        if ended.code != 0 {
            bail!("no page from {url}: curl {} {}", ended.code, ended.stderr.trim());
        }
        let mut words = ended.stdout.split(' ');
        let mut word = || words.next().context("curl said nothing");
        Ok(Page {
            status: word()?.parse()?,
            redirects: word()?.parse()?,
            url: word()?.to_owned(),
            body: fs::read(&body).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default(),
        })
    }
}

impl Page {
    /// The first form that has a field (or button) of this name, or whose text holds it.
    ///
    /// # Errors
    /// There is none.
    pub fn form_with(&self, text: &str) -> Result<Form> {
        let lower = self.body.to_ascii_lowercase();
        let mut from = 0;
        while let Some(start) = lower.get(from..).and_then(|rest| rest.find("<form")).map(|at| at + from) {
            let end = lower.get(start..).and_then(|rest| rest.find("</form>")).map_or(lower.len(), |at| at + start);
            let html = self.body.get(start..end).unwrap_or_default();
            if html.contains(text) {
                return Ok(self.form(html));
            }
            from = end;
        }
        bail!("{} (status {}) has no form with \"{text}\":\n{}", self.url, self.status, first_text(&self.body))
    }

    /// Whether the page's text holds this.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    fn form(&self, html: &str) -> Form {
        let opening = html.split('>').next().unwrap_or_default();
        let action = attribute(opening, "action").map_or_else(|| self.url.clone(), |action| self.absolute(&action));
        let mut fields = Vec::new();
        for tag in html.split('<').filter(|tag| tag.starts_with("input") || tag.starts_with("button")) {
            let tag = tag.split('>').next().unwrap_or_default();
            if let Some(name) = attribute(tag, "name") {
                fields.push((name, attribute(tag, "value").unwrap_or_default()));
            }
        }
        Form { action, fields }
    }

    fn absolute(&self, action: &str) -> String {
        let origin = origin(&self.url);
        if action.contains("://") {
            action.to_owned()
        } else if action.starts_with('/') {
            format!("{origin}{action}")
        } else if action.is_empty() || action.starts_with('?') {
            format!("{}{action}", self.url.split('?').next().unwrap_or_default())
        } else {
            let folder = self.url.split('?').next().and_then(|url| url.rsplit_once('/')).map_or("", |(head, _)| head);
            format!("{folder}/{action}")
        }
    }
}

/// `https://host[:port]` of a URL.
#[must_use]
pub fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// An attribute's value with the common entities resolved.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let at = tag.match_indices(&format!("{name}=")).map(|(at, _)| at).find(|at| {
        let before = tag.get(..*at).and_then(|head| head.chars().last());
        before.is_some_and(char::is_whitespace)
    })?;
    let rest = tag.get(at + name.len() + 1..)?;
    let value = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest.get(1..)?.split(quote).next()?,
        _ => rest.split_whitespace().next()?.trim_end_matches('/'),
    };
    let entities =
        [("&#x2F;", "/"), ("&#47;", "/"), ("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'"), ("&#x27;", "'")];
    let plain = entities.iter().fold(value.to_owned(), |text, (entity, plain)| text.replace(entity, plain));
    let plain = plain.replace("&#60;", "<").replace("&lt;", "<").replace("&#62;", ">").replace("&gt;", ">");
    Some(plain.replace("&#38;", "&").replace("&amp;", "&"))
}

/// The first words of a page, for error messages.
fn first_text(body: &str) -> String {
    body.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Form, Page};

    fn page(body: &str) -> Page {
        Page { status: 200, url: "https://a.test/x/y?z".to_owned(), redirects: 0, body: body.to_owned() }
    }

    #[test]
    fn the_form_with_the_named_field_is_found() {
        let page = page(
            r#"<form action="/one"><input name="a" value="1"></form>
               <FORM method=post action='two'><input type=hidden name=csrf value="x&amp;y"><input name="b"/></FORM>"#,
        );
        let fields = vec![("csrf".to_owned(), "x&y".to_owned()), ("b".to_owned(), String::new())];
        let found = page.form_with("name=\"b\"").unwrap();
        assert_eq!(found, Form { action: "https://a.test/x/two".to_owned(), fields });
        assert_eq!(page.form_with("name=\"a\"").unwrap().action, "https://a.test/one");
        assert!(page.form_with("absent").is_err());
    }

    #[test]
    fn a_form_without_action_goes_back_to_its_page() {
        assert_eq!(page("<form><input name=q></form>").form_with("q").unwrap().action, "https://a.test/x/y?z");
    }
}
