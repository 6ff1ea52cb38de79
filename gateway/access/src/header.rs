//! Header hygiene: what a browser may not tell an app in our name.

/// Whether an inbound request header is dropped before the app sees the request.
///
/// Names are compared as a careless application server would: case and every character that is not a letter or digit
/// are the same (`Sluice_Identity` reaches a CGI program as `HTTP_SLUICE_IDENTITY` too).
#[must_use]
pub fn removed_from_request(name: &str, user_header: Option<&str>) -> bool {
    const EXACT: [&str; 8] =
        ["forwarded", "proxy", "trueclientip", "xclientip", "xoriginaluri", "xoriginalurl", "xrealip", "xrewriteurl"];
    const PREFIXES: [&str; 4] = ["sluice", "xforwarded", "xoriginalforwarded", "xsluice"];
    let plain = squeeze(name);
    EXACT.contains(&plain.as_str())
        || PREFIXES.iter().any(|prefix| plain.starts_with(prefix))
        || is_proxy_family(name)
        || user_header.is_some_and(|ours| squeeze(ours) == plain)
}

/// `Proxy-Authorization` and kin speak to us, never to the app; `proxyfoo` is an app's own.
fn is_proxy_family(name: &str) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("proxy-") || start.eq_ignore_ascii_case("proxy_"))
}

fn squeeze(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether an app may ask for the login name under `name`.
pub(crate) fn may_be_user_header(name: &str) -> bool {
    const NEVER: [&str; 14] = [
        "authorization",
        "connection",
        "contentlength",
        "contenttype",
        "cookie",
        "date",
        "expect",
        "host",
        "keepalive",
        "setcookie",
        "te",
        "trailer",
        "transferencoding",
        "upgrade",
    ];
    let plain = squeeze(name);
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !plain.is_empty()
        && !NEVER.contains(&plain.as_str())
        && !removed_from_request(name, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn inbound_spellings_of_our_headers_are_removed() {
        for name in [
            "Sluice-Identity",
            "sluice_identity",
            "SLUICE-IDENTITY",
            "Sluice.Identity",
            "sluice-anything",
            "X-Sluice-User",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_user",
            "X-FORWARDED-Host",
            "X-Real-IP",
            "X-Original-URL",
            "X-Rewrite-Url",
            "Proxy-Authorization",
            "Proxy",
            "True-Client-IP",
        ] {
            assert!(removed_from_request(name, None), "{name}");
        }
        for name in ["Accept", "X-Requested-With", "Authorization", "If-Match", "Proxyfoo", "X-Remote-User"] {
            assert!(!removed_from_request(name, None), "{name}");
        }
        assert!(removed_from_request("x_remote_user", Some("X-Remote-User")));
        assert!(removed_from_request("X-Remote.User", Some("X-Remote-User")));
    }

    #[test]
    fn an_app_cannot_take_a_framing_header_for_the_user() {
        for name in [
            "Host",
            "Content-Length",
            "transfer-encoding",
            "Cookie",
            "Sluice-Identity",
            "X-Forwarded-For",
            "",
            "a b",
            "ü",
        ] {
            assert!(!may_be_user_header(name), "{name}");
        }
        assert!(may_be_user_header("X-Remote-User"));
    }

    proptest! {
        #[test]
        fn no_separator_saves_a_spoof(seps in proptest::collection::vec("[-_.~!]", 1), upper in any::<bool>()) {
            let name = format!("x{}remote{}user", seps[0], seps[0]);
            let name = if upper { name.to_uppercase() } else { name };
            prop_assert!(removed_from_request(&name, Some("X-Remote-User")));
        }

        #[test]
        fn any_name_is_judged_without_panic(name in ".{0,40}") {
            let _judged = removed_from_request(&name, Some("X-Remote-User"));
            let _judged = may_be_user_header(&name);
        }
    }
}
