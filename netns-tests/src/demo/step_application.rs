//! Steps 5 to 8: Roundup's rows, page, event and action, through the connector.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    report::Evidence,
    step_start::login_password,
    world::{ROUNDUP_URL, World},
};
use crate::{
    browser::{Browser, Page},
    roundup::{ISSUES, password},
};

/// Name of the integration.
const INTEGRATION: &str = "roundup";
/// The issue that bob is given, and its title.
const ISSUE: (&str, &str) = ("8", "issue 7");
/// Number of the status "resolved" in Roundup's classic tracker.
const RESOLVED: &str = "8";
/// Fewest issues a full sync must bring.
const WANTED: u64 = 500;
/// The user's feed, behind the gateway.
const FEED: &str = "https://feed.acme.test/";

/// Step 5.
pub(super) fn synced(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integrations/roundup.toml");
    let declaration = std::fs::read_to_string(&shipped).context("the shipped integration is missing")?;
    let declaration = at_public_url(&declaration)?;
    let file = world.admin.secret("roundup.toml", &declaration)?;
    world.admin.tenant(&["integration", "put", INTEGRATION, "--file", &file])?;
    let secret = world.admin.secret("sync.password", &password("sync"))?;
    world.admin.tenant(&["integration", "credential", INTEGRATION, "--login", "sync", "--password-file", &secret])?;
    world.admin.full_administrator()?;
    let there = world.roundup.issues()?;
    let began = Instant::now();
    let answer = sync(world)?;
    let seconds = began.elapsed().as_secs_f64();
    let cached = world.admin.cache(INTEGRATION, "issue")?;
    let issues = rows(&cached).len() as u64;
    ensure!(issues >= WANTED, "only {issues} issues are in the cache, {WANTED} were wanted");
    ensure!(issues == there as u64, "{issues} issues are in the cache, Roundup has {there}");
    let title = format!("issue {}", ISSUES - 1);
    ensure!(rows(&cached).iter().any(|row| row.to_string().contains(&title)), "\"{title}\" is not in the cache");
    let cards = answer.get("cards").and_then(Value::as_u64).unwrap_or(0);
    ensure!(cards == 0, "the first sync is a baseline and must make no cards, it made {cards}");
    evidence.measured("sync_s", seconds);
    evidence.measured("issues", issues as f64);
    evidence.saw(format!("{issues} issues in the tenant's cache, as many as roundup-admin counts; {answer}"));
    Ok(())
}

/// What an administrator edits before use: where the tracker is.
fn at_public_url(declaration: &str) -> Result<String> {
    let lines = declaration.lines().map(|line| match line.strip_prefix("url = ") {
        Some(_) => format!("url = \"{ROUNDUP_URL}\"\n"),
        None => format!("{line}\n"),
    });
    let edited: String = lines.collect();
    ensure!(edited.contains(ROUNDUP_URL), "the shipped integration has no url to edit");
    Ok(edited)
}

fn rows(answer: &Value) -> &[Value] {
    let list = answer.get("rows").or_else(|| answer.get("items")).unwrap_or(answer);
    list.as_array().map_or(&[], Vec::as_slice)
}

fn sync(world: &World) -> Result<Value> {
    world.admin.tenant(&["integration", "sync", INTEGRATION])
}

/// Step 6.
pub(super) fn signed_in(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let began = Instant::now();
    let wrong = if world.breaks(6) { "-mistyped" } else { "" };
    let page = sign_in(&world.bob, "bob", wrong)?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(page.url.starts_with("https://roundup.acme.test/"), "after the login bob is at {}", page.url);
    ensure!(page.status == 200 && page.says("Hello, bob"), "Roundup does not greet bob:\n{}", head(&page));
    evidence.measured("login_to_page_s", seconds);
    evidence.saw(format!("bob asked for {ROUNDUP_URL}, logged in once, and Roundup's page says \"Hello, bob\""));
    let again = world.bob.open(FEED)?;
    ensure!(
        again.status == 200 && again.url.starts_with(FEED),
        "the second application wants a login again: {}",
        again.url
    );
    evidence.saw("the feed, a second application, opened without another login");
    let issue = world.bob.open(&format!("{ROUNDUP_URL}issue{}", ISSUE.0))?;
    ensure!(issue.status == 200 && issue.says(ISSUE.1), "issue {} does not open:\n{}", ISSUE.0, head(&issue));
    Ok(())
}

/// Opens Roundup without a session and fills in the login form.
fn sign_in(browser: &Browser, user: &str, wrong: &str) -> Result<Page> {
    let asked = browser.open(ROUNDUP_URL)?;
    ensure!(
        asked.url.starts_with("https://login.acme.test/"),
        "without a session {user} ended at {} (status {}), not at the login",
        asked.url,
        asked.status
    );
    ensure!(!asked.says("issue"), "the login page shows Roundup's content");
    let form = asked.form_with("password")?;
    let secret = format!("{}{wrong}", login_password(user));
    browser.send(&form, &[("login", user), ("password", &secret)])
}

/// Step 7.
pub(super) fn carded(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let carol = sign_in(&world.carol, "carol", "")?;
    ensure!(carol.says("Hello, carol"), "Roundup does not greet carol:\n{}", head(&carol));
    ensure!(!world.bob.open(FEED)?.says(ISSUE.1), "bob has the card before anything was assigned");
    // The user's own login at Roundup goes into the wallet; sabotage for step 8: it is somebody else's.
    let own = if world.breaks(8) { "alice" } else { "bob" };
    let page = world.bob.open(&format!("{FEED}credentials"))?;
    let form = page.form_with("password")?;
    let stored = world.bob.send(&form, &[("login", own), ("password", &password(own))])?;
    ensure!(stored.status == 200, "bob's own login was not taken:\n{}", head(&stored));
    let to = if world.breaks(7) { "carol" } else { "bob" };
    let began = Instant::now();
    world.roundup.assign("alice", ISSUE.0, to, ROUNDUP_URL)?;
    let answer = sync(world)?;
    let feed = wait_for_card(world, true)?;
    evidence.measured("assigned_to_card_s", began.elapsed().as_secs_f64());
    ensure!(feed, "bob has no card for \"{}\" after the sync ({answer})", ISSUE.1);
    let other = world.carol.open(FEED)?;
    ensure!(other.status == 200 && other.url.starts_with(FEED), "carol's feed does not open: {}", other.url);
    ensure!(!other.says(ISSUE.1), "carol sees bob's card");
    evidence
        .saw(format!("alice assigned issue {} in Roundup; bob's feed has \"{}\", carol's has not", ISSUE.0, ISSUE.1));
    Ok(())
}

/// Waits until bob's feed has (or has not) the card; whether it came to that.
fn wait_for_card(world: &World, wanted: bool) -> Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        if world.bob.open(FEED)?.says(ISSUE.1) == wanted {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Step 8.
pub(super) fn resolved(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let before = world.roundup.history(ISSUE.0)?;
    let form = world.bob.open(FEED)?.form_with("resolve")?;
    let began = Instant::now();
    let page = world.bob.send(&form, &[])?;
    ensure!(page.status == 200, "the action was refused:\n{}", head(&page));
    evidence.measured("resolve_s", began.elapsed().as_secs_f64());
    let history = world.roundup.history(ISSUE.0)?;
    let new: Vec<&str> = history.lines().filter(|line| !before.contains(*line)).collect();
    ensure!(!new.is_empty(), "Roundup's history did not grow");
    let entry = new.iter().find(|line| line.contains("status")).context("Roundup's history has no change of status")?;
    ensure!(entry.trim_start().starts_with("bob("), "Roundup says somebody else did it: {entry}");
    let status = world.roundup.property(ISSUE.0, "status")?;
    evidence.saw(format!("Roundup's own history: {}", entry.trim()));
    ensure!(status == RESOLVED, "Roundup's status of issue {} is {status}, not {RESOLVED} (resolved)", ISSUE.0);
    evidence.saw(format!("Roundup's status of issue {} is now {status} (resolved)", ISSUE.0));
    ensure!(wait_for_card(world, false)?, "the card is still open");
    evidence.saw("the card is closed");
    Ok(())
}

/// The beginning of a page, for error messages.
fn head(page: &Page) -> String {
    format!("{} {}\n{}", page.status, page.url, page.body.chars().take(800).collect::<String>())
}
