//! One viewer's socket: the only file that knows WebSockets.
//!
//! Writing belongs to rooms: a [`Frame`] is encoded once and shared, [`Socket::send`] writes it at once or says `Blocked`,
//! and at most the rest of one frame is kept, by reference. So a viewer who stops reading costs O(1) memory and delays
//! nobody. Reading belongs to one small task per socket, which holds no buffer of note while nothing arrives. Messages are
//! decoded, reassembled and checked by tungstenite; it writes only pongs and the answer to a close, into `replies`.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame as WsFrame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

macro_rules! closes {
    ($($name:ident = $code:literal $reason:literal),* $(,)?) => {
        /// Why a socket is closed. 40xx: do not retry. 41xx: back off. 42xx: come back now and resume.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Close {
            $($name),*
        }

        impl Close {
            pub const ALL: &[Close] = &[$(Close::$name),*];

            pub fn code(self) -> u16 {
                match self {
                    $(Close::$name => $code),*
                }
            }

            pub fn reason(self) -> &'static str {
                match self {
                    $(Close::$name => $reason),*
                }
            }
        }
    };
}

closes! {
    Broken = 1002 "protocol error",
    Unsupported = 1003 "text messages only",
    NotText = 1007 "not UTF-8",
    TooBig = 1009 "message too big",
    Restarting = 1012 "restarting",
    BadToken = 4001 "bad token",
    TokenExpired = 4002 "token expired",
    Forbidden = 4003 "forbidden",
    NoShow = 4004 "no such show",
    Unavailable = 4103 "unavailable",
    Slow = 4108 "too slow",
    RateLimited = 4110 "too many messages",
}

/// A whole text frame, encoded once for everybody: frames of servers are not masked.
#[derive(Debug, Clone)]
pub(super) struct Frame(Bytes);

impl Frame {
    pub(super) fn text(text: &str) -> Frame {
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        let mut bytes = Vec::with_capacity(text.len() + 10);
        header.format(text.len() as u64, &mut bytes).expect("writing to memory does not fail");
        bytes.extend_from_slice(text.as_bytes());
        Frame(bytes.into())
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Written, or begun: the rest follows by itself.
    Taken,
    /// Nothing of it was taken; the viewer does not read.
    Blocked,
    /// The socket is closed or closing.
    Gone,
}

/// The writing side, shared by the room and the reading task.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    out: Mutex<Out>,
    /// Wakes the reading task: something is left to write, or the socket shall close.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Out {
    /// The frame that was begun, and how much of it is written.
    rest: Option<(Frame, usize)>,
    /// Pongs and answers to the viewer's own messages, at most [`REPLIES_MAX`] bytes.
    replies: Vec<u8>,
    /// Set once; nothing but what is above is written before the close frame, and nothing after it.
    closing: Option<Instant>,
    gone: bool,
}

/// A viewer who asks without reading the answers is cut off here.
const REPLIES_MAX: usize = 8 * 1024;
/// How much may lie in the kernel for one viewer: enough for a burst, too little for seconds of stale frames.
const SEND_BUFFER: usize = 32 * 1024;
const UNSENT_MAX: u32 = 16 * 1024;
/// A peer that acknowledges nothing for this long is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a closing socket waits for the other side's farewell.
const CLOSE_GRACE: Duration = Duration::from_secs(3);
const READ_BUFFER: usize = 256;
/// Readings of [`READ_BUFFER`] bytes until others get their turn.
const READS_MAX: usize = 32;

impl Socket {
    /// Takes over a connection after its upgrade, and lets go of the task that made it: that one has ended, but its memory is
    /// held as long as the connection would wake it.
    ///
    /// # Errors
    /// The connection is broken already.
    pub fn adopt(tcp: TcpStream) -> io::Result<Socket> {
        let options = SockRef::from(&tcp);
        options.set_tcp_nodelay(true)?;
        options.set_send_buffer_size(SEND_BUFFER)?;
        #[cfg(target_os = "linux")]
        {
            options.set_tcp_notsent_lowat(UNSENT_MAX)?;
            options.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        }
        let mut nobody = Context::from_waker(Waker::noop());
        // Only whoever asked last is woken. What the answers are does not matter: whoever reads and writes asks again.
        let _ = (tcp.poll_read_ready(&mut nobody), tcp.poll_write_ready(&mut nobody));
        Ok(Socket { tcp, out: Mutex::default(), wake: Notify::new() })
    }

    /// Writes a frame, or says why not.
    pub(super) fn send(&self, frame: &Frame) -> Sent {
        let mut out = self.lock();
        if out.gone || out.closing.is_some() {
            return Sent::Gone;
        }
        match out.flush(&self.tcp) {
            Flushed::All => {}
            Flushed::Part => return Sent::Blocked,
            Flushed::Broken => return Sent::Gone,
        }
        match write(&self.tcp, &frame.0) {
            Ok(0) => Sent::Blocked,
            Ok(written) if written == frame.0.len() => Sent::Taken,
            Ok(written) => {
                out.rest = Some((frame.clone(), written));
                drop(out);
                self.wake.notify_one();
                Sent::Taken
            }
            Err(_) => {
                out.gone = true;
                drop(out);
                self.wake.notify_one();
                Sent::Gone
            }
        }
    }

    /// Whether everything that was begun is written.
    pub(super) fn is_clear(&self) -> bool {
        let mut out = self.lock();
        !out.gone && out.closing.is_none() && out.flush(&self.tcp) == Flushed::All
    }

    /// Whether the kernel has room again, as far as is known without asking it.
    pub(super) fn takes_more(&self) -> bool {
        self.is_clear() && self.tcp.try_io(Interest::WRITABLE, || Ok(())).is_ok()
    }

    /// Answers the viewer's own message.
    fn reply(&self, text: &str) {
        let mut out = self.lock();
        // The room may have said goodbye while the answer was made: nothing follows a close frame.
        if out.gone || out.closing.is_some() {
            return;
        }
        out.replies.extend_from_slice(&Frame::text(text).0);
        out.flush(&self.tcp);
        out.gone |= out.replies.len() > REPLIES_MAX;
    }

    /// Says goodbye: the close frame goes out behind whatever was begun.
    pub fn close(&self, why: Close) {
        let mut out = self.lock();
        if out.closing.is_some() {
            return;
        }
        let close = CloseFrame { code: CloseCode::from(why.code()), reason: why.reason().into() };
        WsFrame::close(Some(close)).format(&mut out.replies).expect("writing to memory does not fail");
        out.closing = Some(Instant::now());
        out.flush(&self.tcp);
        drop(out);
        metrics::counter!("showcart_sockets_closed_total", "why" => why.reason()).increment(1);
        self.wake.notify_one();
    }

    /// Drops the connection without a word: for peers that take nothing any more.
    pub(super) fn abort(&self) {
        self.lock().gone = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().expect("nothing panics while it holds the output")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushed {
    All,
    Part,
    Broken,
}

impl Out {
    fn flush(&mut self, tcp: &TcpStream) -> Flushed {
        if self.gone {
            return Flushed::Broken;
        }
        if let Some((frame, written)) = &mut self.rest {
            match write(tcp, &frame.0[*written..]) {
                Ok(more) => *written += more,
                Err(_) => {
                    self.gone = true;
                    return Flushed::Broken;
                }
            }
            if *written < frame.0.len() {
                return Flushed::Part;
            }
            self.rest = None;
        }
        if !self.replies.is_empty() {
            match write(tcp, &self.replies) {
                Ok(written) => drop(self.replies.drain(..written)),
                Err(_) => {
                    self.gone = true;
                    return Flushed::Broken;
                }
            }
            if !self.replies.is_empty() {
                return Flushed::Part;
            }
            self.replies = Vec::new();
        }
        Flushed::All
    }
}

/// Writes as much as the kernel takes now.
fn write(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match tcp.try_write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Bounds of what a viewer may send.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    pub message_bytes_max: usize,
    /// In the long run; three times as many at once.
    pub messages_per_second_max: u32,
}

/// What a socket's messages mean: implemented above this layer.
pub trait Session: Send {
    /// Handles one text message; the answer goes back on the same socket.
    fn text(&mut self, text: &str) -> impl Future<Output = Option<String>> + Send;

    /// When the socket must close unless a newer token came, and as what.
    fn ends(&self) -> Option<Instant>;
}

/// Reads until the socket ends, whoever ends it.
pub async fn read(socket: &Socket, early: Vec<u8>, limits: ReadLimits, session: &mut impl Session) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(REPLIES_MAX)
        .max_message_size(Some(limits.message_bytes_max))
        .max_frame_size(Some(limits.message_bytes_max));
    let mut ws = WebSocketContext::from_partially_read(early, Role::Server, Some(config));
    let mut allowance = Allowance::new(limits.messages_per_second_max);
    let mut io = Io { socket, reads_left: READS_MAX };
    loop {
        match ws.read(&mut io) {
            Ok(Message::Text(text)) => {
                if !allowance.take() {
                    socket.close(Close::RateLimited);
                    // On the heap, like everything that few sockets do at a time: each socket's task has room for the largest.
                } else if let Some(answer) = Box::pin(session.text(&text)).await {
                    socket.reply(&answer);
                }
            }
            Ok(Message::Binary(_)) => socket.close(Close::Unsupported),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {
                if !allowance.take() {
                    socket.close(Close::RateLimited);
                }
            }
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock && io.reads_left == 0 => {
                // Reading what has arrived never waits, so a flood would keep everybody else from this thread. It counts as a
                // message, because it may contain none: fragments without an end.
                io.reads_left = READS_MAX;
                tokio::task::yield_now().await;
                if !allowance.take() {
                    socket.close(Close::RateLimited);
                }
            }
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                io.reads_left = READS_MAX;
                if !wait(socket, session).await {
                    break;
                }
            }
            Err(WsError::Capacity(CapacityError::MessageTooLong { .. })) => {
                socket.close(Close::TooBig);
                break Box::pin(linger(socket)).await;
            }
            Err(WsError::Utf8(_)) => {
                socket.close(Close::NotText);
                break Box::pin(linger(socket)).await;
            }
            Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break,
            Err(WsError::Protocol(_)) => {
                socket.close(Close::Broken);
                break Box::pin(linger(socket)).await;
            }
            // The other side has gone, with or without a farewell.
            Err(_) => break,
        }
        let out = socket.lock();
        if out.gone || out.closing.is_some_and(|it| it.elapsed() > CLOSE_GRACE) {
            break;
        }
    }
    let mut out = socket.lock();
    // The answer to the other side's farewell, which a browser that closes waits for.
    out.flush(&socket.tcp);
    out.gone = true;
    // Nobody may be holding this socket for long, but the other side should not wait for that.
    SockRef::from(&socket.tcp).shutdown(Shutdown::Both).ok();
}

/// Waits until there is something to read or to do; false when the socket has ended.
async fn wait(socket: &Socket, session: &impl Session) -> bool {
    let (unwritten, closing, gone) = {
        let mut out = socket.lock();
        let unwritten = out.flush(&socket.tcp) == Flushed::Part;
        (unwritten, out.closing, out.gone)
    };
    if gone {
        return false;
    }
    let ends = closing.map(|it| it + CLOSE_GRACE).or_else(|| session.ends());
    let interest = if unwritten { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    tokio::select! {
        ready = socket.tcp.ready(interest) => ready.is_ok(),
        () = socket.wake.notified() => true,
        () = at(ends) => {
            if closing.is_some() {
                return false;
            }
            socket.close(Close::TokenExpired);
            true
        }
    }
}

/// After an error of the other side nothing more is understood, so bytes are thrown away until it has read our close frame:
/// closing with unread bytes would reset the connection before that.
async fn linger(socket: &Socket) {
    // On the heap: every socket's task has the size of the largest thing that any socket does.
    let mut waste = vec![0; 4_096];
    let drain = async {
        loop {
            let unwritten = socket.lock().flush(&socket.tcp) == Flushed::Part;
            let ready = tokio::select! {
                ready = socket.tcp.readable() => ready,
                ready = socket.tcp.writable(), if unwritten => ready,
            };
            if ready.is_err() {
                return;
            }
            tokio::task::yield_now().await;
            match socket.tcp.try_read(&mut waste) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // Whoever sends on until then is cut off: running out of patience is the answer.
    tokio::time::timeout(CLOSE_GRACE, drain).await.ok();
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// The socket as tungstenite sees it: it reads what has arrived, and what it writes is queued behind our own frames.
struct Io<'a> {
    socket: &'a Socket,
    reads_left: usize,
}

impl io::Read for Io<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        self.socket.tcp.try_read(bytes)
    }
}

impl io::Write for Io<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = self.socket.lock();
        // After our own close frame nothing follows, not even tungstenite's answer to the other side's.
        if out.closing.is_none() {
            out.replies.extend_from_slice(bytes);
            if out.replies.len() > REPLIES_MAX {
                out.gone = true;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.lock().flush(&self.socket.tcp);
        Ok(())
    }
}

/// A bucket of messages that fills with time.
struct Allowance {
    per_second: f64,
    left: f64,
    filled: Instant,
}

impl Allowance {
    fn new(per_second: u32) -> Allowance {
        let per_second = f64::from(per_second);
        Allowance { per_second, left: per_second * 3.0, filled: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let more = now.duration_since(self.filled).as_secs_f64() * self.per_second;
        self.left = (self.left + more).min(self.per_second * 3.0);
        self.filled = now;
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }
}

/// What a room holds of a viewer.
pub(super) type SharedSocket = Arc<Socket>;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A socket of ours, and the other side of it, which takes little.
    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4_096).unwrap();
        let connecting = client.connect(listener.local_addr().unwrap());
        let (accepted, connected) = tokio::join!(listener.accept(), connecting);
        (Socket::adopt(accepted.unwrap().0).unwrap(), connected.unwrap())
    }

    /// What a socket's reading task does while nothing is said to it.
    async fn read_on(socket: &Socket) {
        struct Silent;
        impl Session for Silent {
            async fn text(&mut self, _: &str) -> Option<String> {
                None
            }

            fn ends(&self) -> Option<Instant> {
                None
            }
        }
        let limits = ReadLimits { message_bytes_max: 100, messages_per_second_max: 10 };
        read(socket, Vec::new(), limits, &mut Silent).await;
    }

    #[tokio::test]
    async fn of_a_viewer_who_does_not_read_the_rest_of_one_frame_is_kept_and_comes_out_whole() {
        let (socket, mut client) = pair().await;
        let long = Frame::text(&"x".repeat(1_000_000));
        let short = Frame::text("short");
        assert_eq!(socket.send(&long), Sent::Taken);
        for _ in 0..3 {
            assert_eq!((socket.send(&short), socket.takes_more()), (Sent::Blocked, false));
        }
        let mut begun = vec![0; long.0.len()];
        let whole = async { client.read_exact(&mut begun).await.unwrap() };
        tokio::select! {
            () = read_on(&socket) => panic!("nobody closed the socket"),
            _ = whole => {}
        }
        assert_eq!(begun, long.0);
        // Nothing of the frames that were refused is in between.
        assert_eq!(socket.send(&short), Sent::Taken);
        let mut next = vec![0; short.0.len()];
        client.read_exact(&mut next).await.unwrap();
        assert_eq!(next, short.0);
    }

    #[tokio::test]
    async fn the_close_frame_stands_behind_what_was_begun_and_is_the_last_word() {
        let (socket, mut client) = pair().await;
        let long = Frame::text(&"x".repeat(300_000));
        assert_eq!(socket.send(&long), Sent::Taken);
        socket.close(Close::Slow);
        assert_eq!(socket.send(&long), Sent::Gone);
        socket.close(Close::Restarting);
        let mut all = Vec::new();
        let (_, heard) = tokio::join!(read_on(&socket), client.read_to_end(&mut all));
        heard.unwrap();
        let (frame, farewell) = all.split_at(long.0.len());
        assert_eq!(frame, long.0);
        assert_eq!(
            (farewell[0], &farewell[2..4], &farewell[4..]),
            (0x88, &4108u16.to_be_bytes()[..], &b"too slow"[..])
        );
    }

    #[tokio::test]
    async fn a_connection_that_was_cut_is_gone() {
        let (socket, client) = pair().await;
        drop(client);
        read_on(&socket).await;
        assert_eq!(socket.send(&Frame::text("anybody?")), Sent::Gone);
        assert!(!socket.is_clear());
    }
}
