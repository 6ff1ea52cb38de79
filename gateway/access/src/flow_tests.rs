//! The login flow against a model that knows what every browser is entitled to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::GatewayDocument;

const HOSTS: [&str; 2] = ["wiki.acme.test", "mail.acme.test"];
const USERS: [&str; 2] = ["ann", "bob"];
const NOW: UnixTime = UnixTime(1_800_000_000);

fn plan() -> Plan {
    let app = |id: &str, host: &str| {
        json!({"id": id, "name": id, "host": host, "groups": ["staff"], "user_header": null,
               "upstream": {"kind": "control", "address": "c.test:1", "server_name": "c.test"}})
    };
    let document: GatewayDocument = serde_json::from_value(json!({
        "tenant": "acme", "login_host": "login.acme.test", "session_seconds": 3600,
        "session_key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "splices": [],
        "apps": [app("wiki", HOSTS[0]), app("mail", HOSTS[1])], "relay": {"callers": []}
    }))
    .unwrap();
    document.try_into().unwrap()
}

fn counting() -> impl FnMut(&mut [u8]) {
    let mut next = 0u64;
    move |out: &mut [u8]| {
        next += 1;
        for (byte, source) in out.iter_mut().zip(next.to_be_bytes().iter().rev().cycle()) {
            *byte = *source;
        }
    }
}

fn verified(user: &str) -> VerifiedUser {
    VerifiedUser {
        user: user.parse().unwrap(),
        email: format!("{user}@acme.test"),
        display_name: user.to_owned(),
        groups: vec!["staff".into()],
    }
}

/// A browser: cookies by host.
#[derive(Default)]
struct Browser {
    jar: BTreeMap<(String, &'static str), String>,
}

impl Browser {
    fn header(&self, host: &str) -> String {
        let pairs =
            self.jar.iter().filter(|((at, _), _)| at == host).map(|((_, name), value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    fn set(&mut self, host: &str, cookie: SetCookie) {
        self.jar.insert((host.to_owned(), cookie.name), cookie.value);
    }
}

fn parameter(location: &str) -> String {
    location.split_once('=').unwrap().1.to_owned()
}

#[test]
fn g2_one_login_opens_two_apps() {
    let (plan, mut random, mut browser, mut spent) = (plan(), counting(), Browser::default(), SpentCodes::new(NOW));
    let login = plan.login_host().to_owned();
    let mut session = None;
    for host in HOSTS {
        let header = browser.header(host);
        let begun = plan.begin(plan.app(host).unwrap(), "/a?b=c", &Cookies::new(&[&header]), NOW, &mut random).unwrap();
        assert!(begun.location.starts_with("https://login.acme.test/login?return="));
        browser.set(host, begun.cookie);
        let to = plan.return_to(&parameter(&begun.location), NOW).unwrap();
        let header = browser.header(&login);
        let there = plan.session(&login, &Cookies::new(&[&header]), NOW);
        assert_eq!(there, session, "logged in exactly once");
        let who = match there {
            Some(session) => session,
            None => {
                let page = plan.login_page(&Cookies::new(&[]), NOW, &mut random).unwrap();
                browser.set(&login, page.cookie);
                let header = browser.header(&login);
                plan.check_form(&page.form_token, &Cookies::new(&[&header]), NOW).unwrap();
                let done = plan.complete(verified("bob"), NOW, &mut random).unwrap();
                browser.set(&login, done.cookie);
                done.session
            }
        };
        let location = plan.hand_over(&to, &who, NOW, &mut random).unwrap();
        let header = browser.header(host);
        let entered =
            plan.enter(host, &parameter(&location), &Cookies::new(&[&header]), &mut spent, NOW, &mut random).unwrap();
        assert_eq!(entered.location, format!("https://{host}/a?b=c"));
        browser.set(host, entered.cookie);
        let header = browser.header(host);
        assert_eq!(plan.session(host, &Cookies::new(&[&header]), NOW).as_ref(), Some(&who));
        session = Some(who);
    }
    // The cookie of one host is nothing on another.
    let stolen = browser.header(HOSTS[0]);
    assert_eq!(plan.session(HOSTS[1], &Cookies::new(&[&stolen]), NOW), None);
    assert_eq!(plan.session(&login, &Cookies::new(&[&stolen]), NOW), None);
}

#[test]
fn times_run_out() {
    let (plan, mut random) = (plan(), counting());
    let begun = plan.begin(plan.app(HOSTS[0]).unwrap(), "/", &Cookies::new(&[]), NOW, &mut random).unwrap();
    let sealed = parameter(&begun.location);
    assert!(plan.return_to(&sealed, NOW.plus(LOGIN_SECONDS - 1)).is_ok());
    assert_eq!(plan.return_to(&sealed, NOW.plus(LOGIN_SECONDS)), Err(FlowRefused::Broken));
    assert_eq!(plan.return_to(&sealed, UnixTime(NOW.0 - 1)), Err(FlowRefused::Broken));
    let to = plan.return_to(&sealed, NOW).unwrap();
    let done = plan.complete(verified("bob"), NOW, &mut random).unwrap();
    let code = parameter(&plan.hand_over(&to, &done.session, NOW, &mut random).unwrap());
    let nonce = format!("{NONCE_COOKIE}={}", begun.cookie.value);
    let mut spent = SpentCodes::new(NOW);
    let late = NOW.plus(CODE_SECONDS);
    let refused = plan.enter(HOSTS[0], &code, &Cookies::new(&[&nonce]), &mut spent, late, &mut random);
    assert_eq!(refused, Err(FlowRefused::Code(CodeRefused::Expired)));
    let header = format!("{SESSION_COOKIE}={}", done.cookie.value);
    assert!(plan.session("login.acme.test", &Cookies::new(&[&header]), NOW.plus(3_599)).is_some());
    assert!(plan.session("login.acme.test", &Cookies::new(&[&header]), NOW.plus(3_600)).is_none());
}

#[test]
fn a_form_of_another_browser_is_refused() {
    let (plan, mut random) = (plan(), counting());
    let mine = plan.login_page(&Cookies::new(&[]), NOW, &mut random).unwrap();
    let other = plan.login_page(&Cookies::new(&[]), NOW, &mut random).unwrap();
    let cookie = |page: &LoginPage| format!("{LOGIN_COOKIE}={}", page.cookie.value);
    assert_eq!(plan.check_form(&mine.form_token, &Cookies::new(&[&cookie(&mine)]), NOW), Ok(()));
    assert!(plan.check_form(&mine.form_token, &Cookies::new(&[&cookie(&other)]), NOW).is_err());
    assert!(plan.check_form(&mine.form_token, &Cookies::new(&[]), NOW).is_err());
    let late = NOW.plus(LOGIN_SECONDS);
    assert!(plan.check_form(&mine.form_token, &Cookies::new(&[&cookie(&mine)]), late).is_err());
}

#[test]
fn a_path_that_could_lead_elsewhere_becomes_the_front_page() {
    for path in [
        "//evil.test/",
        "/\\evil.test",
        "\\\\evil.test",
        "https://evil.test/",
        "",
        "a",
        "/a b",
        "/a\r\nSet-Cookie: x",
        "/a#b",
        "/\u{e9}",
    ] {
        assert_eq!(safe_path(path), "/", "{path:?}");
    }
    assert_eq!(safe_path("/a/../b?c=//d&e=%2F"), "/a/../b?c=//d&e=%2F");
    assert_eq!(safe_path(&format!("/{}", "a".repeat(MAX_PATH))), "/");
}

#[test]
fn too_many_groups_are_said_not_cut() {
    let mut user = verified("bob");
    user.groups = (0..400).map(|n| format!("group-number-{n}")).collect();
    assert_eq!(plan().complete(user, NOW, &mut counting()), Err(FlowRefused::TooLarge));
}

#[derive(Clone, Debug)]
enum Step {
    Begin { browser: usize, host: usize, path: String },
    Login { browser: usize, user: usize },
    HandOver { browser: usize, redirect: usize },
    Enter { browser: usize, host: usize, code: usize },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2usize, 0..2usize, "[/a.:@\\\\ #?-]{0,6}").prop_map(|(browser, host, path)| Step::Begin { browser, host, path }),
        2 => (0..2usize, 0..2usize).prop_map(|(browser, user)| Step::Login { browser, user }),
        4 => (0..2usize, 0..8usize).prop_map(|(browser, redirect)| Step::HandOver { browser, redirect }),
        5 => (0..2usize, 0..2usize, 0..8usize).prop_map(|(browser, host, code)| Step::Enter { browser, host, code }),
        1 => (0..20u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Random interleavings of two browsers, two users, two hosts; redirects and codes may be carried to any browser
    /// and host. A session must appear only on the host and in the browser that the code was made for, for the user
    /// who was logged in there, once, in time; and nobody is sent to a host outside the plan.
    #[test]
    fn g2_no_interleaving_swaps_sessions(steps in proptest::collection::vec(step(), 1..40)) {
        let (plan, mut random, mut now, mut spent) = (plan(), counting(), NOW, SpentCodes::new(NOW));
        let login = plan.login_host().to_owned();
        let mut browsers = [Browser::default(), Browser::default()];
        let mut redirects: Vec<(usize, usize, String)> = vec![];
        let mut codes: Vec<(usize, usize, String, UnixTime, String)> = vec![];
        let mut used = BTreeSet::new();
        for step in steps {
            match step {
                Step::Begin { browser, host, path } => {
                    let header = browsers[browser].header(HOSTS[host]);
                    let app = plan.app(HOSTS[host]).unwrap();
                    let begun = plan.begin(app, &path, &Cookies::new(&[&header]), now, &mut random).unwrap();
                    redirects.push((browser, host, parameter(&begun.location)));
                    browsers[browser].set(HOSTS[host], begun.cookie);
                }
                Step::Login { browser, user } => {
                    let done = plan.complete(verified(USERS[user]), now, &mut random).unwrap();
                    browsers[browser].set(&login, done.cookie);
                }
                Step::HandOver { browser, redirect } => {
                    let Some((beginner, host, sealed)) = redirects.get(redirect) else { continue };
                    let header = browsers[browser].header(&login);
                    let Some(session) = plan.session(&login, &Cookies::new(&[&header]), now) else { continue };
                    let Ok(to) = plan.return_to(sealed, now) else { continue };
                    let location = plan.hand_over(&to, &session, now, &mut random).unwrap();
                    let prefix = format!("https://{}/.sluice/enter?code=", HOSTS[*host]);
                    prop_assert!(location.starts_with(&prefix));
                    codes.push((*beginner, *host, parameter(&location), now, session.user.to_string()));
                }
                Step::Enter { browser, host, code } => {
                    let Some((beginner, target, text, made, user)) = codes.get(code) else { continue };
                    let header = browsers[browser].header(HOSTS[host]);
                    let entered = plan.enter(HOSTS[host], text, &Cookies::new(&[&header]), &mut spent, now, &mut random);
                    let entitled = *beginner == browser
                        && *target == host
                        && now.since(*made) < CODE_SECONDS
                        && !used.contains(&code);
                    prop_assert_eq!(entered.is_ok(), entitled);
                    if let Ok(entered) = entered {
                        used.insert(code);
                        prop_assert_eq!(entered.session.user.as_str(), user.as_str());
                        let start = format!("https://{}/", HOSTS[host]);
                        prop_assert!(entered.location.starts_with(&start));
                        prop_assert!(!entered.location[start.len()..].starts_with('/'));
                        prop_assert!(!entered.location.contains('\\'));
                        browsers[browser].set(HOSTS[host], entered.cookie);
                    }
                }
                Step::Wait { seconds } => now = now.plus(seconds),
            }
        }
    }

    #[test]
    fn made_up_texts_open_nothing(text in "[A-Za-z0-9_-]{0,120}") {
        let (plan, mut random, mut spent) = (plan(), counting(), SpentCodes::new(NOW));
        prop_assert!(plan.return_to(&text, NOW).is_err());
        let nonce = format!("{NONCE_COOKIE}=AAAAAAAAAAAAAAAAAAAAAQ");
        prop_assert!(plan.enter(HOSTS[0], &text, &Cookies::new(&[&nonce]), &mut spent, NOW, &mut random).is_err());
        let cookie = format!("{SESSION_COOKIE}={text}");
        prop_assert!(plan.session(HOSTS[0], &Cookies::new(&[&cookie]), NOW).is_none());
    }
}
