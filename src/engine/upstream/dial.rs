//! A TCP connection to whichever of a name's addresses accepts first: they are tried a moment
//! apart, families in turn (RFC 8305, "happy eyeballs").

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one attempt has to itself before the next begins beside it (RFC 8305 §5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// No delay is shorter, however little time there is for however many addresses (RFC 8305 §5).
const SHORTEST_DELAY: Duration = Duration::from_millis(10);

/// Attempts at once. Of more addresses each has as many delays as this, then its place is the next
/// one's.
pub const MAX_ATTEMPTS: usize = 20;

/// Connects to one of `addresses`; the attempts that are not needed are dropped. Within `limit`,
/// which the caller keeps, each address has its turn.
///
/// # Errors
/// The last attempt's, where none succeeds.
pub async fn dial(addresses: Vec<SocketAddr>, limit: Option<Duration>) -> io::Result<TcpStream> {
    if let [only] = addresses.as_slice() {
        return attempt(*only).await;
    }
    let count = u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let share = limit.map_or(ATTEMPT_DELAY, |limit| limit / count);
    let delay = share.clamp(SHORTEST_DELAY, ATTEMPT_DELAY);
    let patience = (addresses.len() > MAX_ATTEMPTS).then(|| delay * MAX_ATTEMPTS as u32);
    let mut left = interleaved(addresses).into_iter();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    // Dropped, it ends them.
    let mut attempts = JoinSet::new();
    loop {
        if attempts.len() < MAX_ATTEMPTS
            && let Some(address) = left.next()
        {
            attempts.spawn(async move {
                match patience {
                    None => attempt(address).await,
                    Some(patience) => timeout(patience, attempt(address)).await?,
                }
            });
        }
        let ended = if left.len() > 0 && attempts.len() < MAX_ATTEMPTS {
            timeout(delay, attempts.join_next()).await
        } else {
            Ok(attempts.join_next().await)
        };
        match ended {
            Ok(None) => return Err(failure),
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            // The next one need not wait any longer.
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(Some(Err(_))) | Err(_) => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Without it the connection is slower, and works.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// The resolver's order, but each address of the first one's family is followed by one of the other
/// (RFC 8305 §4).
#[must_use]
pub fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let mut merged = Vec::with_capacity(addresses.len());
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == preferred);
    let mut second = second.into_iter();
    for address in first {
        merged.push(address);
        merged.extend(second.next());
    }
    merged.extend(second);
    merged
}
