//! The connector's end of a worker's socket.

use std::{io, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{
    Kind, MAX_WORKERS, Workers,
    frame::{self, Answer, Ask},
};

/// Does for a worker what that may not do itself.
pub(crate) trait Help: Sync {
    /// The answer to `asked`; `None` when this worker has no business with it.
    fn help(&self, asked: &Answer) -> impl Future<Output = Option<Ask>> + Send;
}

/// Workers, so many at a time.
#[derive(Clone, Debug)]
pub(crate) struct Staff {
    workers: Arc<dyn Workers>,
    room: Arc<Semaphore>,
}

impl Staff {
    pub(crate) fn new(workers: Arc<dyn Workers>) -> Self {
        Self { workers, room: Arc::new(Semaphore::new(MAX_WORKERS)) }
    }

    /// Starts a worker, as soon as there is room for it.
    pub(crate) async fn start(&self, kind: Kind) -> io::Result<Job> {
        let room = self.room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let socket = self.workers.start(kind)?;
        socket.set_nonblocking(true)?;
        Ok(Job { socket: UnixStream::from_std(socket)?, _room: room })
    }
}

/// One worker at work. Dropping it ends the worker.
pub(crate) struct Job {
    socket: UnixStream,
    _room: OwnedSemaphorePermit,
}

impl Job {
    /// Asks the worker, and has what it asks meanwhile answered by `helper`.
    ///
    /// # Errors
    /// What it says is wrong, or that it died or took too long.
    pub(crate) async fn ask(&mut self, ask: &Ask, helper: &impl Help) -> Result<Done, String> {
        let exchange = async {
            self.say(ask).await?;
            loop {
                let answer: Answer = self.hear().await?;
                match answer {
                    Answer::Result(text) => return Ok(Done::Text(text)),
                    Answer::Token(token) => return Ok(Done::Token(token)),
                    Answer::Failed(why) => return Ok(Done::Failed(why)),
                    Answer::WrongSecret(why) => return Ok(Done::WrongSecret(why)),
                    Answer::Resolve(_) | Answer::Kdc { .. } => {
                        let more = helper
                            .help(&answer)
                            .await
                            .ok_or_else(|| io::Error::other("it asks for what it may not"))?;
                        self.say(&more).await?;
                    }
                }
            }
        };
        let exchanged: Result<io::Result<Done>, _> = timeout(PATIENCE, exchange).await;
        match exchanged {
            Ok(Ok(Done::Failed(why))) => Err(why),
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err("its process was ended: it could not be confined, or wanted more memory or time than it may have"
                    .to_owned())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it took more than {} s", PATIENCE.as_secs())),
        }
    }

    async fn say(&mut self, message: &Ask) -> io::Result<()> {
        let frame: Zeroizing<Vec<u8>> = frame::encode(message)?;
        self.socket.write_all(&frame).await
    }

    async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut header = [0; 4];
        self.socket.read_exact(&mut header).await?;
        let mut body = vec![0; frame::length(header)?];
        self.socket.read_exact(&mut body).await?;
        frame::decode(&body)
    }
}

/// What came of a job.
pub(crate) enum Done {
    /// A script's result.
    Text(String),
    /// A token.
    Token(Vec<u8>),
    /// It cannot be done.
    Failed(String),
    /// The KDC says that the password or key is wrong.
    WrongSecret(String),
}

/// Longest a worker may take for one answer, with all it asks meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);
