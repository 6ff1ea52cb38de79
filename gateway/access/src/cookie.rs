//! Our cookies among the app's: found, kept from the app, and never set by it.

/// Session of one host.
pub const SESSION_COOKIE: &str = "__Host-sluice";
/// Names the browser on an app host while it logs in.
pub const NONCE_COOKIE: &str = "__Host-sluice-nonce";
/// Names the browser on the login host before it has logged in.
pub const LOGIN_COOKIE: &str = "__Host-sluice-login";
/// Every cookie of ours starts so; nothing that starts so passes to or from an app.
const OURS: &str = "__host-sluice";

/// The `Cookie` fields of one request (HTTP/2 may split them).
#[derive(Clone, Copy, Debug)]
pub struct Cookies<'a> {
    fields: &'a [&'a str],
}

impl<'a> Cookies<'a> {
    /// Wraps the field values in order.
    #[must_use]
    pub const fn new(fields: &'a [&'a str]) -> Self {
        Self { fields }
    }

    /// The one cookie of that name. Two of them are none: which one a browser meant cannot be known.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a str> {
        let mut found = self.pairs().filter(|(key, _)| *key == name).map(|(_, value)| value);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// What the app may see: everything that is not ours; `None` when nothing is left.
    #[must_use]
    pub fn for_app(&self) -> Option<String> {
        let kept: Vec<&str> = self
            .fields
            .iter()
            .flat_map(|field| field.split(';'))
            .map(str::trim)
            .filter(|pair| !pair.is_empty() && !is_ours(pair))
            .collect();
        (!kept.is_empty()).then(|| kept.join("; "))
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.fields
            .iter()
            .flat_map(|field| field.split(';'))
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
    }
}

/// Whether an upstream's `Set-Cookie` may reach the browser.
///
/// A field without a name (`=__Host-sluice=x`) is refused as well: browsers send it back without the first `=`.
#[must_use]
pub fn may_set_cookie(field: &str) -> bool {
    let pair = field.split(';').next().unwrap_or_default();
    let nameless = pair.split('=').next().is_none_or(|name| name.trim().is_empty());
    !nameless && !is_ours(pair)
}

fn is_ours(pair: &str) -> bool {
    let start = pair.trim_start_matches(|c: char| c == '=' || c.is_whitespace() || c.is_control());
    start.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

/// A cookie to be set on the host that answers, never readable by scripts and never sent in the clear.
#[derive(Clone, PartialEq, Eq)]
pub struct SetCookie {
    /// Its name.
    pub name: &'static str,
    /// Its value; empty removes it.
    pub value: String,
    /// Seconds to keep it; 0 removes it.
    pub max_age: u64,
}

impl SetCookie {
    /// Removes `name` from the browser.
    #[must_use]
    pub const fn removal(name: &'static str) -> Self {
        Self { name, value: String::new(), max_age: 0 }
    }

    /// The field's value.
    #[must_use]
    pub fn to_field(&self) -> String {
        let Self { name, value, max_age } = self;
        format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={max_age}")
    }
}

impl std::fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetCookie({}, redacted)", self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_cookie_is_found_and_kept_from_the_app() {
        let fields = ["a=1; __Host-sluice=secret; b=2", "__Host-sluice-nonce=n;c=3"];
        let cookies = Cookies::new(&fields);
        assert_eq!(cookies.value(SESSION_COOKIE), Some("secret"));
        assert_eq!(cookies.value(NONCE_COOKIE), Some("n"));
        assert_eq!(cookies.for_app().unwrap(), "a=1; b=2; c=3");
    }

    #[test]
    fn two_session_cookies_are_none() {
        assert_eq!(Cookies::new(&["__Host-sluice=a; __Host-sluice=b"]).value(SESSION_COOKIE), None);
        assert_eq!(Cookies::new(&["__Host-sluice=a", "__Host-sluice=a"]).value(SESSION_COOKIE), None);
    }

    #[test]
    fn an_app_cannot_set_our_cookies() {
        for field in [
            "__Host-sluice=x; Path=/",
            "__host-SLUICE=x",
            " __Host-sluice-nonce=1",
            "=__Host-sluice=x",
            "==__Host-sluice=x",
            "__Host-sluice",
            "",
            "=x",
            ";a=b",
            "\t__Host-sluice=x",
        ] {
            assert!(!may_set_cookie(field), "{field:?}");
        }
        assert!(may_set_cookie("JSESSIONID=1; Path=/; HttpOnly"));
        assert!(may_set_cookie("a=__Host-sluice"));
    }

    proptest! {
        #[test]
        fn nothing_of_ours_survives(parts in proptest::collection::vec(
            prop_oneof![Just("__Host-sluice=s".to_owned()), Just("__HOST-SLUICE-x=s".to_owned()), "[a-z=; ]{0,12}"], 0..8)) {
            let fields: Vec<&str> = parts.iter().map(String::as_str).collect();
            let left = Cookies::new(&fields).for_app().unwrap_or_default();
            prop_assert!(!left.to_ascii_lowercase().contains("__host-sluice"));
        }

        #[test]
        fn any_text_is_judged_without_panic(text in ".{0,80}") {
            let _judged = may_set_cookie(&text);
            let _judged = Cookies::new(&[&text]).for_app();
        }
    }
}
