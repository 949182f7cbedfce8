//! What the access log is written to: a file, a pipe or standard output. Lines go out whole, or not at
//! all and are counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fstat};

/// How long a pipe may be full before lines are dropped, in seconds.
const PATIENCE: i64 = 1;

/// Where lines go.
#[derive(Debug, Default)]
pub struct Sink {
    /// `None` is standard output.
    file: Option<File>,
    /// What could not be written of a line that has begun.
    rest: Vec<u8>,
    /// Whoever reads has taken nothing for a while: it is not waited for before it does again.
    stuck: bool,
}

impl Sink {
    /// What is at `path`, or a new file.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let is_pipe = path.metadata().is_ok_and(|data| data.file_type().is_fifo());
        let mut options = OpenOptions::new();
        // To open a pipe takes as long as nobody reads it, and to write to one fails when nobody does
        // any more. Who reads it himself has neither, and whoever comes next finds what has been
        // written meanwhile.
        match is_pipe {
            true => options.read(true).write(true),
            false => options.create(true).append(true),
        };
        // It is a pipe by now, maybe.
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        Ok(Self {
            file: Some(options.open(path)?),
            ..Self::default()
        })
    }

    /// Ends the line that `before` has begun, where both lead to the same file, as a pipe that has
    /// been opened again does.
    pub(super) fn go_on_from(&mut self, before: Self) {
        if let (Ok(own), Ok(old)) = (self.identity(), before.identity())
            && own == old
        {
            self.rest = before.rest;
            self.stuck = before.stuck;
        }
    }

    /// Device and inode, equal for no two files that are open.
    fn identity(&self) -> io::Result<impl PartialEq + use<>> {
        let data = match &self.file {
            Some(file) => fstat(file),
            None => fstat(io::stdout()),
        }?;
        Ok((data.st_dev, data.st_ino))
    }

    /// Writes `lines`, whose last one is complete; how many of them are lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        let mut waiting = std::mem::take(&mut self.rest);
        let mut torn = !waiting.is_empty();
        waiting.extend_from_slice(lines);
        let mut left = waiting.as_slice();
        while !left.is_empty() {
            match self.put(left) {
                Ok(count @ 1..) => {
                    let (written, behind) = left.split_at_checked(count).unwrap_or((left, &[]));
                    torn = !written.ends_with(b"\n");
                    left = behind;
                    self.stuck = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.wait() => {}
                Ok(_) | Err(_) => break,
            }
        }
        if torn {
            let end = left.iter().position(|octet| *octet == b'\n');
            let (rest, whole) = left
                .split_at_checked(end.map_or(0, |end| end + 1))
                .unwrap_or((left, &[]));
            self.rest = rest.to_vec();
            left = whole;
        }
        left.iter().filter(|octet| **octet == b'\n').count() as u64
    }

    fn put(&self, octets: &[u8]) -> io::Result<usize> {
        match &self.file {
            Some(file) => (&*file).write(octets),
            None => io::stdout().lock().write(octets),
        }
    }

    /// Whether there is room after a while.
    fn wait(&mut self) -> bool {
        if self.stuck {
            return false;
        }
        let patience = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        let stdout = io::stdout();
        let mut one = [match &self.file {
            Some(file) => PollFd::new(file, PollFlags::OUT),
            None => PollFd::new(&stdout, PollFlags::OUT),
        }];
        self.stuck = !matches!(poll(&mut one, Some(&patience)), Ok(1..));
        !self.stuck
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    /// A pipe with room for a page; what is written, and what is read.
    fn pipe() -> io::Result<(Sink, File)> {
        let (reader, writer) = io::pipe()?;
        let (reader, writer) = (
            File::from(std::os::fd::OwnedFd::from(reader)),
            File::from(std::os::fd::OwnedFd::from(writer)),
        );
        rustix::fs::fcntl_setfl(writer.as_fd(), OFlags::NONBLOCK)?;
        Ok((
            Sink {
                file: Some(writer),
                ..Sink::default()
            },
            reader,
        ))
    }

    #[test]
    fn lines_that_nobody_takes_are_counted_and_none_is_cut() -> io::Result<()> {
        let (mut sink, mut reader) = pipe()?;
        // Larger than what a pipe takes at once, so that one of them is cut.
        let line = [vec![b'x'; 9_999], vec![b'\n']].concat();
        let mut lost = 0;
        for _ in 0..20 {
            lost += sink.write(&line);
        }
        assert!(lost > 0 && sink.stuck);
        // It goes on where it has stopped.
        let mut taken = vec![0; 30_000];
        reader.read_exact(&mut taken)?;
        assert_eq!(sink.write(b"last\n"), 0);
        assert!(!sink.stuck);
        drop(sink);
        reader.read_to_end(&mut taken)?;
        let lines: Vec<_> = taken.split(|octet| *octet == b'\n').collect();
        let (whole, last) = lines.split_at_checked(lines.len() - 2).unwrap_or_default();
        assert_eq!(last, [&b"last"[..], b""]);
        assert_eq!(whole.len() as u64, 20 - lost);
        assert!(whole.iter().all(|line| line.len() == 9_999));
        Ok(())
    }

    #[test]
    fn a_pipe_that_is_opened_again_cuts_no_line() -> io::Result<()> {
        let (mut sink, mut reader) = pipe()?;
        let line = [vec![b'x'; 99_999], vec![b'\n']].concat();
        assert_eq!(sink.write(&line), 0);
        assert!(!sink.rest.is_empty() && sink.stuck);
        let mut again = Sink {
            file: sink.file.as_ref().map(File::try_clone).transpose()?,
            ..Sink::default()
        };
        again.go_on_from(sink);
        assert!(again.stuck);
        let mut taken = vec![0; 50_000];
        reader.read_exact(&mut taken)?;
        assert_eq!(again.write(b"last\n"), 0);
        drop(again);
        reader.read_to_end(&mut taken)?;
        assert!(taken == [line, b"last\n".to_vec()].concat());
        Ok(())
    }

    #[test]
    fn another_file_gets_nothing_of_the_one_before() -> io::Result<()> {
        let ((mut sink, _reader), (mut other, _other_reader)) = (pipe()?, pipe()?);
        sink.write(&[vec![b'x'; 99_999], vec![b'\n']].concat());
        other.go_on_from(sink);
        assert!(other.rest.is_empty() && !other.stuck);
        Ok(())
    }

    #[test]
    fn who_reads_no_longer_costs_lines_alone() -> io::Result<()> {
        let (mut sink, reader) = pipe()?;
        drop(reader);
        assert_eq!(sink.write(b"a\nb\n"), 2);
        Ok(())
    }
}
