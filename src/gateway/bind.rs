//! Addresses to listen on: a socket for each worker, so that the system deals connections out.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::config::settings::Bind;
use super::plan::PlanError;

/// Connections that wait to be accepted, where the system allows as many.
const BACKLOG: i32 = 4096;

/// Silence after which the system asks whether a client is still there, how often then, and how
/// many times: what a tunnel would not notice by itself.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

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
}

impl Bound {
    /// What it is bound to, as settings and as text.
    #[must_use]
    pub fn place(&self) -> (Bind, String) {
        (self.bind.clone(), self.address.clone())
    }
}

/// Binds an address for that many workers.
///
/// # Errors
/// [`PlanError::Bind`].
pub fn bind(bind: &Bind, workers: usize) -> Result<Bound, PlanError> {
    match bind {
        Bind::Tcp { host, port, .. } => bind_tcp(bind, host, *port, workers),
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

fn bind_tcp(bind: &Bind, host: &str, port: u16, workers: usize) -> io::Result<Bound> {
    let mut found = (host, port).to_socket_addrs()?;
    let mut address = found
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    // Whoever shares ports shares this one, too, without a word: ask alone first.
    let alone = socket(address, false)?;
    address.set_port(
        alone
            .local_addr()?
            .as_socket()
            .map_or(port, |own| own.port()),
    );
    drop(alone);
    let shared = cfg!(target_os = "linux") && workers > 1;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = match sockets.first() {
            Some(Listening::Tcp(first)) if !shared => first.try_clone()?,
            _ => {
                let socket = socket(address, shared)?;
                socket.listen(BACKLOG)?;
                socket.into()
            }
        };
        sockets.push(Listening::Tcp(listener));
    }
    Ok(Bound {
        bind: bind.clone(),
        address: address.to_string(),
        sockets,
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

/// Removes what [`bind`] has left in the file system.
pub fn unbind(bind: &Bind) {
    if let Bind::Unix(path) = bind {
        // It may be gone already.
        let _ = std::fs::remove_file(path);
    }
}
