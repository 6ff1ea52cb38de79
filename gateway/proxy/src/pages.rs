//! The gateway's own pages: no script, readable without colours, usable by keyboard.

use askama::Template;

use crate::respond::Answer;

/// Where every host serves [`STYLE`].
pub(crate) const STYLE_PATH: &str = "/.sluice/style.css";
/// The style sheet.
pub(crate) const STYLE: &str = include_str!("../templates/style.css");

/// The login form.
#[derive(Template)]
#[template(path = "login.html")]
pub(crate) struct Login<'a> {
    /// What went wrong before, said to everybody the same way.
    pub(crate) problem: &'a str,
    pub(crate) form_token: &'a str,
    pub(crate) return_to: &'a str,
    /// What the user typed as name.
    pub(crate) login: &'a str,
    /// Where the user is going.
    pub(crate) destination: &'a str,
}

/// What a user can open.
#[derive(Template)]
#[template(path = "home.html")]
pub(crate) struct Home<'a> {
    pub(crate) name: &'a str,
    /// (name, host)
    pub(crate) apps: Vec<(&'a str, &'a str)>,
    pub(crate) form_token: &'a str,
}

/// Something to tell.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct Message<'a> {
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
    /// (address, words); empty address: none.
    pub(crate) link: (&'a str, &'a str),
}

/// The page as an answer.
pub(crate) fn answer(status: u16, page: &impl Template, form_host: Option<&str>) -> Answer {
    match page.render() {
        Ok(html) => Answer::page(status, html, form_host),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            Answer::page(500, "Something went wrong here; try again.".to_owned(), None)
        }
    }
}

/// A page with a title and a sentence.
pub(crate) fn message(status: u16, title: &str, text: &str) -> Answer {
    answer(status, &Message { title, text, link: ("", "") }, None)
}
