//! The console's pages: sign in, look, revoke.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::json;
use sluice_node_identity::UnixTime;
use tower::ServiceExt;

use super::{COOKIE, MAX_SESSIONS, SESSION_SECONDS, Sessions, session::cookie};
use crate::admin_api::tests::{World, streams::stream};

async fn send(
    world: &World,
    method: &str,
    path: &str,
    held: &str,
    form: Option<String>,
) -> (StatusCode, HeaderMap, String) {
    send_from(world, method, path, held, form, "same-origin").await
}

async fn send_from(
    world: &World,
    method: &str,
    path: &str,
    held: &str,
    form: Option<String>,
    site: &str,
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path).header("sec-fetch-site", site);
    if !held.is_empty() {
        request = request.header(header::COOKIE, held);
    }
    if form.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let request = request.body(form.map_or_else(Body::empty, Body::from)).unwrap();
    let answer = world.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn sign_in(world: &World, token: &str) -> String {
    let (status, headers, page) = send(world, "POST", "/login", "", Some(format!("token={token}"))).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    let cookie = headers[header::SET_COOKIE].to_str().unwrap();
    for part in ["__Host-", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

fn hidden(page: &str) -> String {
    page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_administrator_signs_in_looks_and_revokes() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    world.good("POST", "/tenants/acme/hubs", &owner, json!({"id": "hub-1", "site": "branch", "serial": "<b>"})).await;
    world.good("POST", "/tenants/acme/nodes", &owner, json!({"id": "edge-1", "role": "edge", "site": "branch"})).await;
    let held = sign_in(&world, &acme).await;
    let (status, headers, _) = send(&world, "GET", "/", &held, None).await;
    assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, "/t/acme/nodes"));
    let (_, headers, nodes) = send(&world, "GET", "/t/acme/nodes", &held, None).await;
    assert!(nodes.contains("edge-1") && nodes.contains("expected"));
    assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let (_, _, hubs) = send(&world, "GET", "/t/acme/hubs", &held, None).await;
    assert!(hubs.contains("hub-1") && hubs.contains("&#60;b&#62;") && !hubs.contains("<b>"));
    let form = Some(format!("csrf={}", hidden(&hubs)));
    let (status, ..) = send(&world, "POST", "/t/acme/hubs/hub-1/revoke", &held, form).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let (_, _, hubs) = send(&world, "GET", "/t/acme/hubs", &held, None).await;
    assert!(hubs.contains("revoked") && !hubs.contains("/hubs/hub-1/revoke"));
}

#[tokio::test]
async fn c5_g7_resources_show_their_rules_exceptions_and_who_signs() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    let resource = json!({
        "id": "sql", "site": "branch", "target": "udp:db.sql.test:1433", "hosts": "*.sql.test", "ports": "1433-1434",
        "times": ["mon-fri 06:00-18:00"], "for_control": true
    });
    world.good("POST", "/tenants/acme/resources", &acme, resource).await;
    let exception = json!({
        "site": "branch", "target": "tcp:pump.test:22", "callers": ["control"], "seconds": 60, "why": "<b>repair</b>"
    });
    world.good("POST", "/tenants/acme/exceptions", &acme, exception).await;
    let held = sign_in(&world, &acme).await;
    let (status, _, page) = send(&world, "GET", "/t/acme/resources", &held, None).await;
    assert_eq!(status, StatusCode::OK);
    for shown in ["udp:db.sql.test:1433", "*.sql.test", "1433-1434", "mon-fri 06:00-18:00", "tcp:pump.test:22"] {
        assert!(page.contains(shown), "{shown} is not on the page: {page}");
    }
    assert!(page.contains("held by control") && !page.contains("<b>repair"));
    world.later(60);
    let (_, _, page) = send(&world, "GET", "/t/acme/resources", &held, None).await;
    assert!(!page.contains("pump.test"), "an exception that is over is shown");
    assert_eq!(send(&world, "GET", "/t/other/resources", &held, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn without_a_session_or_in_another_tenant_nothing_shows() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    for held in ["", "__Host-sluice-console=guess", "other=1"] {
        let (status, headers, _) = send(&world, "GET", "/t/acme/nodes", held, None).await;
        assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, "/login"));
    }
    let held = sign_in(&world, &acme).await;
    let (theirs, _, page) = send(&world, "GET", "/t/other/nodes", &held, None).await;
    let (absent, _, same) = send(&world, "GET", "/t/nowhere/nodes", &held, None).await;
    assert_eq!((theirs, &page), (absent, &same));
    assert_eq!(theirs, StatusCode::NOT_FOUND);
    let (status, ..) = send(&world, "POST", "/login", "", Some("token=slat_wrong".into())).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_button_needs_the_sessions_own_form() {
    let (world, owner) = World::owned().await;
    world.two_tenants(&owner).await;
    world.good("POST", "/tenants/acme/hubs", &owner, json!({"id": "hub-1", "site": "branch"})).await;
    let held = sign_in(&world, &owner).await;
    let (_, _, page) = send(&world, "GET", "/t/acme/hubs", &held, None).await;
    let path = "/t/acme/hubs/hub-1/revoke";
    for form in ["csrf=", "csrf=AAAA"] {
        assert_eq!(send(&world, "POST", path, &held, Some(form.into())).await.0, StatusCode::FORBIDDEN);
    }
    let form = Some(format!("csrf={}", hidden(&page)));
    let foreign = send_from(&world, "POST", path, &held, form, "cross-site").await;
    assert_eq!(foreign.0, StatusCode::FORBIDDEN);
    let (_, hubs) = world.call("GET", "/tenants/acme/hubs", Some(&owner), None).await;
    assert_eq!(hubs["items"][0]["state"], "expected");
}

#[tokio::test]
async fn a_revoked_token_ends_the_session_and_so_does_signing_out() {
    let (world, owner) = World::owned().await;
    let [acme, other, _] = world.two_tenants(&owner).await;
    let held = sign_in(&world, &acme).await;
    let id = acme.split('_').nth(1).unwrap();
    world.call("DELETE", &format!("/tokens/{id}"), Some(&owner), None).await;
    assert_eq!(send(&world, "GET", "/t/acme/nodes", &held, None).await.0, StatusCode::SEE_OTHER);
    let held = sign_in(&world, &other).await;
    let (_, _, page) = send(&world, "GET", "/t/other/nodes", &held, None).await;
    send(&world, "POST", "/logout", &held, Some(format!("csrf={}", hidden(&page)))).await;
    assert_eq!(send(&world, "GET", "/t/other/nodes", &held, None).await.0, StatusCode::SEE_OTHER);
}

#[test]
fn sessions_are_bounded_and_end() {
    let sessions = Sessions::default();
    let of = |number: usize| Some(format!("t{}", number / 50).parse().unwrap());
    let first = sessions.begin("t", of(0), UnixTime(0)).unwrap();
    assert!(sessions.find(&first, UnixTime(SESSION_SECONDS - 1)).is_some());
    assert!(sessions.find(&first, UnixTime(SESSION_SECONDS)).is_none());
    for number in 1..MAX_SESSIONS {
        sessions.begin("t", of(number), UnixTime(0)).unwrap();
    }
    assert!(sessions.begin("t", None, UnixTime(1)).is_none());
    assert!(sessions.begin("t", None, UnixTime(SESSION_SECONDS + 1)).is_some());
}

#[test]
fn two_session_cookies_count_as_none() {
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, format!("a=b; {COOKIE}=x").parse().unwrap());
    assert_eq!(cookie(&headers), Some("x"));
    headers.append(header::COOKIE, format!("{COOKIE}=y").parse().unwrap());
    assert_eq!(cookie(&headers), None);
}

#[tokio::test]
async fn streams_are_shown_refreshed_and_killed_by_a_button() {
    let (world, owner) = World::owned().await;
    let [acme, other, _] = world.two_tenants(&owner).await;
    let node = json!({"id": "dc-1", "role": "connector", "site": "branch"});
    world.good("POST", "/tenants/acme/nodes", &owner, node).await;
    world.carries("dc-1", vec![stream(1, "user/<b>"), stream(2, "user/ada")]);
    let held = sign_in(&world, &acme).await;
    let (status, headers, page) = send(&world, "GET", "/t/acme/streams", &held, None).await;
    assert_eq!((status, headers[header::REFRESH].to_str().unwrap()), (StatusCode::OK, "5"));
    assert!(
        page.contains("dc-1/0000000000000001") && page.contains("2.0 KiB") && page.contains("10.0.0.7:80"),
        "{page}"
    );
    assert!(page.contains("user/&#60;b&#62;") && !page.contains("<b>") && !page.contains("<script"));
    // Each button says by itself, not by its place, which stream it ends.
    assert!(page.contains("Kill<span class=\"skip\"> dc-1/0000000000000002</span>"));
    let (_, headers, paused) = send(&world, "GET", "/t/acme/streams?connector=dc-1&paused=1", &held, None).await;
    assert!(headers.get(header::REFRESH).is_none() && paused.contains("user/ada"));
    let (_, _, none) = send(&world, "GET", "/t/acme/streams?connector=dc-2&site=", &held, None).await;
    assert!(none.contains("No stream runs now"));
    // Whoever goes by keyboard meets the way to make it stand still first.
    let first = page.split("<a ").nth(1).unwrap();
    assert!(first.contains("paused=1") && !paused.split("<a ").nth(1).unwrap().contains("paused=1"), "{first}");
    assert!(send(&world, "GET", "/t/acme/streams?connector=%22%3E", &held, None).await.0.is_client_error());

    let path = "/t/acme/streams/dc-1/0000000000000001/kill";
    assert_eq!(send(&world, "POST", path, &held, Some("csrf=AAAA".into())).await.0, StatusCode::FORBIDDEN);
    let theirs = sign_in(&world, &other).await;
    let (_, _, own) = send(&world, "GET", "/t/other/streams", &theirs, None).await;
    let form = Some(format!("csrf={}", hidden(&own)));
    assert_eq!(send(&world, "POST", path, &theirs, form).await.0, StatusCode::NOT_FOUND);
    assert_eq!(send(&world, "GET", path, &theirs, None).await.0, StatusCode::NOT_FOUND);
    // A page that stands still names the stream; afterwards the list is as it was.
    let link = format!("{path}?connector=dc-1&amp;site=&amp;paused=1");
    assert!(paused.contains(&link), "{paused}");
    let (status, headers, asked) = send(&world, "GET", &link.replace("amp;", ""), &held, None).await;
    assert!(status.is_success() && headers.get(header::REFRESH).is_none());
    assert!(asked.contains("user/&#60;b&#62;") && asked.contains("End stream dc-1/0000000000000001?"), "{asked}");
    let form = Some(format!("csrf={}&connector=dc-1&site=%0d%0ax&paused=1", hidden(&asked)));
    let (status, headers, _) = send(&world, "POST", path, &held, form).await;
    let back = "/t/acme/streams?connector=dc-1&site=&paused=1";
    assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, back));
    let gone = "/t/acme/streams/dc-1/00000000000000ff/kill";
    let (status, _, said) = send(&world, "GET", gone, &held, None).await;
    assert!(status == StatusCode::NOT_FOUND && said.contains("ended already"), "{said}");
    let (_, audit) = world.call("GET", "/tenants/acme/audit?limit=1000", Some(&owner), None).await;
    assert!(audit["items"].as_array().unwrap().iter().any(|entry| entry["act"] == "stream.kill"));
}
