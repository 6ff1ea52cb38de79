//! Copying between two streams, both ways, without holding a buffer while nothing moves.
//!
//! A thousand idle streams are the usual state of a tunnel. So bytes are read into one buffer that all copies of a
//! thread share and are written from there at once; only what the writer does not take is kept, until it does.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::PollReset;

/// Bytes moved at a time, and the most that one direction keeps while its writer is full.
pub const CARRY_BUFFER: usize = 64 * 1024;
/// Reads of one direction before others get their turn.
const TURNS: usize = 16;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Copies both ways until both have ended; an end of one way is passed on at once, the other goes on. Gives the bytes
/// from `a` to `b` and from `b` to `a`.
///
/// # Errors
/// The first error of either side, a reset among them that stands behind bytes which nobody takes; nothing is shut down
/// then.
pub async fn carry<A, B>(a: &mut A, b: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + PollReset + Unpin,
    B: AsyncRead + AsyncWrite + PollReset + Unpin,
{
    let (mut there, mut back) = (Way::default(), Way::default());
    poll_fn(|cx| {
        let there_done = there.poll(cx, a, b)?;
        let back_done = back.poll(cx, b, a)?;
        if there_done.is_ready() && back_done.is_ready() {
            Poll::Ready(Ok((there.carried, back.carried)))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// What the writer has not taken, from `taken` on.
    kept: Vec<u8>,
    taken: usize,
    state: State,
    unflushed: bool,
    carried: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The reader has ended; the writer does not know yet.
    Ending,
    Ended,
}

impl Way {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + PollReset + Unpin,
        W: AsyncWrite + Unpin,
    {
        // Taken out and put back, so that a copy inside a copy finds an empty place and not a locked one.
        let mut shared = SHARED.take();
        shared.resize(CARRY_BUFFER, 0);
        let polled = self.poll_with(&mut shared, cx, from, to);
        SHARED.set(shared);
        polled
    }

    fn poll_with<R, W>(
        &mut self,
        shared: &mut [u8],
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + PollReset + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            if self.put_kept(cx, to)?.is_pending() {
                return from.poll_reset(cx).map(Err);
            }
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Open => {}
            }
            let mut read = ReadBuf::new(shared);
            match Pin::new(&mut *from).poll_read(cx, &mut read)? {
                Poll::Ready(()) if read.filled().is_empty() => self.state = State::Ending,
                Poll::Ready(()) => {
                    let taken = self.put(read.filled(), cx, to)?;
                    self.kept.extend_from_slice(read.filled().get(taken..).unwrap_or_default());
                }
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Pending while the writer has not taken everything.
    fn put_kept<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> io::Result<Poll<()>> {
        let kept = std::mem::take(&mut self.kept);
        let rest = kept.get(self.taken..).unwrap_or_default();
        let taken = self.put(rest, cx, to)?;
        if taken == rest.len() {
            self.taken = 0;
            return Ok(Poll::Ready(()));
        }
        self.taken += taken;
        self.kept = kept;
        Ok(Poll::Pending)
    }

    /// Writes as much as the writer takes now; gives how much that was.
    fn put<W: AsyncWrite + Unpin>(&mut self, bytes: &[u8], cx: &mut Context<'_>, to: &mut W) -> io::Result<usize> {
        let mut taken = 0;
        while let Some(rest @ [_, ..]) = bytes.get(taken..) {
            match Pin::new(&mut *to).poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => taken += written,
                Poll::Pending => break,
            }
        }
        self.unflushed |= taken > 0;
        self.carried += taken as u64;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::carry;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn bytes(seed: u8, length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from((at * 31 + usize::from(seed)) % 251).unwrap()).collect()
    }

    /// Writes in pieces of `piece` bytes, ends, and reads to the end.
    async fn exchange(io: DuplexStream, sent: &[u8], piece: usize) -> Vec<u8> {
        let (mut read, mut write) = tokio::io::split(io);
        let mut got = Vec::new();
        let sending = async {
            for chunk in sent.chunks(piece) {
                write.write_all(chunk).await.unwrap();
            }
            write.shutdown().await.unwrap();
        };
        tokio::join!(sending, async { read.read_to_end(&mut got).await.unwrap() });
        got
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_byte_arrives_in_order_whatever_the_buffers(
            up in 0..300_000_usize, down in 0..300_000_usize, near_room in 1..70_000_usize,
            far_room in 1..70_000_usize, piece in 1..100_000_usize,
        ) {
            // A buffer of one byte with many bytes would only be slow.
            let (up, down) = (up.min(near_room.min(far_room) * 2000), down.min(near_room.min(far_room) * 2000));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let ((near, mut a), (mut b, far)) = (duplex(near_room), duplex(far_room));
                let (sent_up, sent_down) = (bytes(1, up), bytes(2, down));
                let all = async {
                    tokio::join!(carry(&mut a, &mut b), exchange(near, &sent_up, piece), exchange(far, &sent_down, piece))
                };
                let (carried, got_down, got_up) = timeout(PATIENCE, all).await.expect("in time");
                assert_eq!(carried.unwrap(), (up as u64, down as u64));
                assert!(got_up == sent_up && got_down == sent_down);
            });
        }
    }

    #[tokio::test]
    async fn one_way_ends_and_the_other_goes_on() {
        let ((mut near, mut a), (mut b, mut far)) = (duplex(64), duplex(64));
        let copy = tokio::spawn(async move { carry(&mut a, &mut b).await });
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0, "the end is passed on");
        far.write_all(b"late").await.unwrap();
        let mut late = [0; 4];
        near.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"late");
        drop(far);
        assert_eq!(copy.await.unwrap().unwrap(), (0, 4));
    }

    #[tokio::test]
    async fn a_broken_writer_ends_the_copy() {
        let ((mut near, mut a), (mut b, far)) = (duplex(64), duplex(64));
        drop(far);
        near.write_all(b"x").await.unwrap();
        let ended = timeout(PATIENCE, carry(&mut a, &mut b)).await.expect("in time");
        assert!(ended.is_err());
    }

    #[tokio::test]
    async fn an_idle_copy_holds_no_buffer() {
        let ((_near, mut a), (mut b, _far)) = (duplex(64), duplex(64));
        let copy = carry(&mut a, &mut b);
        assert!(size_of_val(&copy) < 512, "{} bytes", size_of_val(&copy));
    }
}
