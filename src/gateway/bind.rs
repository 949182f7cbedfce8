//! Addresses to listen on: a socket for each worker, so that the system deals connections out.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::config::settings::Bind;
use super::plan::PlanError;

/// Connections that wait to be accepted, where the system allows as many.
pub(super) const BACKLOG: u16 = 4096;

/// Silence after which the system asks whether a client is still there, how often then, and how
/// many times: what a tunnel would not notice by itself.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// Whether the system deals connections out among sockets with the same port. Then a reload, too, can
/// listen at a host before it leaves another one at the same port.
const SHARED: bool = cfg!(target_os = "linux");

/// A listening socket.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// The sockets of one address, one for each worker.
#[derive(Debug)]
pub struct Bound {
    /// What they are bound to.
    pub bind: Bind,
    /// As text, with the port that was found where any would do.
    pub address: String,
    /// One for each worker.
    pub sockets: Vec<Listening>,
    /// Shared by whoever has one of them, until it is closed.
    pub hold: Arc<()>,
    /// What a Unix socket has left in the file system.
    pub file: Option<SocketFile>,
}

/// A file that a Unix socket is known by; removed with this, unless another one is in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The device and the number there.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity_of(path)?,
        })
    }

    /// Whether it is that of a listener which is bound so.
    #[must_use]
    pub fn is_of(&self, bind: &Bind) -> bool {
        matches!(bind, Bind::Unix(path) if *path == self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity_of(&self.path).is_ok_and(|found| found == self.identity) {
            // Nobody is left to be told where it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    let data = path.symlink_metadata()?;
    Ok((data.dev(), data.ino()))
}

impl Bound {
    /// What it is bound to, as settings and as text.
    #[must_use]
    pub fn place(&self) -> (Bind, String) {
        (self.bind.clone(), self.address.clone())
    }

    fn listen(&self) -> Result<(), PlanError> {
        self.sockets.iter().try_for_each(|socket| match socket {
            Listening::Tcp(socket) => SockRef::from(socket)
                .listen(BACKLOG.into())
                .map_err(|error| PlanError::Bind(text_of(&self.bind), error)),
            Listening::Unix(_) => Ok(()),
        })
    }
}

/// What a gateway listens on already.
#[derive(Debug, Default)]
pub struct Own {
    /// Where it has sockets, so that what overlaps may be taken over from one that leaves.
    pub open: Vec<SocketAddr>,
    /// Where it stays.
    pub staying: Vec<SocketAddr>,
}

impl Own {
    /// Whether nobody but a listener that leaves need be in the way.
    fn may_take(&self, address: SocketAddr) -> bool {
        let overlap = |own: &SocketAddr| overlap(*own, address);
        self.open.iter().any(overlap) && !self.staying.iter().any(overlap)
    }
}

/// Whether connections to one address may be meant for the other, too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // That of IPv6 is for IPv4, too.
    let takes = |all: SocketAddr, other: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || other.is_ipv4())
    };
    one.port() == other.port() && (one.ip() == other.ip() || takes(one, other) || takes(other, one))
}

/// Binds addresses for that many workers, all or none: nobody can connect to any before all are
/// there.
///
/// # Errors
/// [`PlanError::Bind`].
pub fn bind_all<'a>(
    binds: impl Iterator<Item = &'a Bind>,
    workers: usize,
    mut own: Own,
) -> Result<Vec<Bound>, PlanError> {
    let mut all: Vec<Bound> = Vec::new();
    for one in binds {
        let bound = bind(one, workers, &own)?;
        own.staying.extend(bound.address.parse::<SocketAddr>());
        all.push(bound);
    }
    all.iter().try_for_each(Bound::listen)?;
    Ok(all)
}

fn bind(bind: &Bind, workers: usize, own: &Own) -> Result<Bound, PlanError> {
    match bind {
        Bind::Tcp { host, port, .. } => bind_tcp(bind, host, *port, workers, own),
        Bind::Unix(path) => bind_unix(bind, path, workers),
    }
    .map_err(|error| PlanError::Bind(text_of(bind), error))
}

/// An address as a person writes it.
#[must_use]
pub fn text_of(bind: &Bind) -> String {
    match bind {
        Bind::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
        Bind::Tcp { host, port, .. } => format!("{host}:{port}"),
        Bind::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn bind_tcp(bind: &Bind, host: &str, port: u16, workers: usize, own: &Own) -> io::Result<Bound> {
    let mut found = (host, port).to_socket_addrs()?;
    let mut address = found
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    // Whoever shares ports shares this one, too, without a word: the first one asks alone, and keeps
    // what it gets.
    let first = match socket(address, false) {
        Ok(alone) => {
            let found = alone.local_addr()?.as_socket();
            address.set_port(found.map_or(port, |found| found.port()));
            alone.set_reuse_port(SHARED)?;
            alone
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && own.may_take(address) => {
            socket(address, SHARED)?
        }
        Err(error) => return Err(error),
    };
    let first = TcpListener::from(first);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        let another = match SHARED {
            true => socket(address, true)?.into(),
            false => first.try_clone()?,
        };
        sockets.push(Listening::Tcp(another));
    }
    sockets.push(Listening::Tcp(first));
    Ok(Bound {
        bind: bind.clone(),
        address: address.to_string(),
        sockets,
        hold: Arc::default(),
        file: None,
    })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Its connections have it from the socket.
    let (silence, interval, times) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(silence);
    socket.set_tcp_keepalive(&keepalive.with_interval(interval).with_retries(times))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(bind: &Bind, path: &Path, workers: usize) -> io::Result<Bound> {
    clear(path)?;
    let first = UnixListener::bind(path)?;
    let file = SocketFile::new(path)?;
    first.set_nonblocking(true)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(Listening::Unix(first.try_clone()?));
    }
    sockets.push(Listening::Unix(first));
    Ok(Bound {
        bind: bind.clone(),
        address: text_of(bind),
        sockets,
        hold: Arc::default(),
        file: Some(file),
    })
}

/// Removes a socket that nobody listens on any more; nothing else.
fn clear(path: &Path) -> io::Result<()> {
    let is_socket = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|data| data.file_type().is_socket())
    };
    if !is_socket(path) {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Has the system ignore who wants to connect from now on, where it can, so that the queue can be
/// emptied: who is in it when the socket is closed is reset. Who is ignored asks again in a second.
pub fn shut(socket: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        /// How much of a segment is let through: nothing, or all.
        const DROP: u32 = 0;
        const KEEP: u32 = u32::MAX;
        /// The octet of a segment that SYN is in (RFC 9293 §3.1).
        const FLAGS: u32 = 13;
        const SYN: u32 = 0x02;
        // The opcodes of linux/bpf_common.h: BPF_LD | BPF_B | BPF_ABS, BPF_JMP | BPF_JSET | BPF_K,
        // BPF_RET | BPF_K.
        const LOAD_OCTET: u16 = 0x30;
        const JUMP_IF_SET: u16 = 0x45;
        const RETURN: u16 = 0x06;
        let filter = [
            SockFilter::new(LOAD_OCTET, 0, 0, FLAGS),
            // Where it is not set, one instruction is skipped.
            SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, DROP),
            SockFilter::new(RETURN, 0, 0, KEEP),
        ];
        // Without it only those are reset who come behind the last that is taken from the queue.
        let _ = SockRef::from(socket).attach_filter(&filter);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Has a socket of TCP listen no more. Dropping it is not enough: a process that is being started
/// at this moment has a copy of it until it has become another program. Where workers share one
/// socket it is not for one of them to do so.
pub fn close(socket: &impl AsFd) {
    if SHARED {
        // A failure leaves it to the drop.
        let _ = SockRef::from(socket).shutdown(Shutdown::Read);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn addresses_overlap_where_one_connection_may_be_for_both() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::1]:80", "[::]:80", true),
        ];
        for (one, other, expected) in cases {
            let found = one.parse().and_then(|one| {
                let other = other.parse()?;
                Ok((overlap(one, other), overlap(other, one)))
            });
            assert_eq!(found, Ok((expected, expected)), "{one} {other}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_closed_listens_no_more_though_another_process_has_a_copy() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.31:0")?;
        let copy = listener.try_clone()?;
        close(&listener);
        let late = TcpStream::connect(copy.local_addr()?);
        assert_eq!(
            late.map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::ConnectionRefused)
        );
        Ok(())
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_comes_when_a_listener_is_shut_is_not_accepted() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let before = TcpStream::connect(address)?;
        shut(&listener);
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(
            late.map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::TimedOut)
        );
        let (_, peer) = listener.accept()?;
        assert_eq!(peer, before.local_addr()?);
        Ok(())
    }
}
