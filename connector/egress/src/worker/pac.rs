//! The worker that evaluates a PAC script.

use std::{cell::RefCell, io, os::unix::net::UnixStream, rc::Rc, time::Instant};

use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Runtime};

use super::{
    SCRIPT_MEMORY, SCRIPT_STACK, SCRIPT_TIME,
    frame::{self, Answer, Ask},
};

/// The functions that scripts expect.
const FUNCTIONS: &str = include_str!("functions.js");

pub(super) fn work(mut socket: UnixStream, confine: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    runtime.set_memory_limit(SCRIPT_MEMORY);
    runtime.set_max_stack_size(SCRIPT_STACK);
    let context = Context::full(&runtime)?;
    // The time zone is read from a file the first time it is needed.
    context.with(|js| js.eval::<i32, _>("new Date().getTimezoneOffset()"))?;
    confine()?;
    let (script, url, host, mine) = match frame::job(&mut socket)? {
        Some(Ask::Pac { script, url, host, mine }) => (script, url, host, mine),
        None => return Ok(()),
        Some(_) => anyhow::bail!("asked for something else than a script"),
    };
    let until = Instant::now() + SCRIPT_TIME;
    runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() > until)));
    let shared = Rc::new(RefCell::new(socket));
    let result = context.with(|js| {
        provide(&js, &shared, mine).map_err(|error| error.to_string())?;
        evaluate(&js, &script, &url, &host)
    });
    let late = || format!("it ran for more than {} s", SCRIPT_TIME.as_secs());
    let answer = match result {
        Ok(text) => Answer::Result(text),
        Err(_) if Instant::now() > until => Answer::Failed(late()),
        Err(why) => Answer::Failed(why),
    };
    Ok(frame::write(&mut *shared.borrow_mut(), &answer)?)
}

/// Gives the script what it may know of the world.
fn provide(js: &Ctx<'_>, socket: &Rc<RefCell<UnixStream>>, mine: String) -> rquickjs::Result<()> {
    let socket = socket.clone();
    let resolve = move |name: String| -> Option<String> { resolved(&mut socket.borrow_mut(), name).ok().flatten() };
    js.globals().set("__resolve", Function::new(js.clone(), resolve)?)?;
    js.globals().set("__mine", Function::new(js.clone(), move || mine.clone())?)?;
    js.eval::<(), _>(FUNCTIONS)
}

fn resolved(socket: &mut UnixStream, name: String) -> io::Result<Option<String>> {
    frame::write(socket, &Answer::Resolve(name))?;
    match frame::read(socket)? {
        Ask::Address(address) => Ok(address),
        _ => Err(io::Error::other("not an address")),
    }
}

fn evaluate(js: &Ctx<'_>, script: &str, url: &str, host: &str) -> Result<String, String> {
    let mut options = rquickjs::context::EvalOptions::default();
    // Scripts were written before there was a strict mode.
    options.strict = false;
    js.eval_with_options::<rquickjs::Value<'_>, _>(script, options).catch(js).map_err(|error| in_words(&error))?;
    let find: Function<'_> =
        js.globals().get("FindProxyForURL").map_err(|_| "it defines no function FindProxyForURL".to_owned())?;
    let found: rquickjs::Value<'_> = find.call((url, host)).catch(js).map_err(|error| in_words(&error))?;
    if found.is_null() || found.is_undefined() {
        return Ok(String::new());
    }
    let text = found.as_string().ok_or("FindProxyForURL returned something else than a text")?;
    text.to_string().map_err(|_| "FindProxyForURL returned a text that is no Unicode".to_owned())
}

fn in_words(error: &CaughtError<'_>) -> String {
    let text = match error {
        CaughtError::Exception(exception) => exception.message().unwrap_or_else(|| "an exception".to_owned()),
        CaughtError::Value(_) => "it threw something".to_owned(),
        CaughtError::Error(error) => error.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
