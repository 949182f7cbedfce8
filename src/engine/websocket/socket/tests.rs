use std::task::Waker;

use tokio::io::{DuplexStream, duplex};

use super::*;

/// As a connection on which nothing comes any more.
impl Io for DuplexStream {
    fn switch(&mut self) {}

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn reset_on_close(&self) {}
}

#[tokio::test]
async fn what_comes_behind_fragments_is_not_left_lying() {
    // Their headers are shorter than that of a frame with all of it.
    let first = [&[0x02, 126, 0xFF, 0xFF], [0; 0xFFFF].as_slice()].concat();
    let last = [0x80, 1, 0];
    for behind in [[0x81, 2, b'o', b'k'], [0x88, 2, 0x03, 0xE8]] {
        let read = [&first, &last[..], &behind].concat();
        let (io, _upstream) = duplex(1);
        let mut peer = SocketPeer::over(Box::new(io), read.into(), None).await;
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(peer.poll_receive(&mut context).is_ready());
        }
    }
}
