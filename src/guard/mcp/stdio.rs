//! Lines, in and out: bounded, and read and written by threads, as this process's own stdin and stdout have to be.

use std::io::{self, BufRead, BufReader, Read, Write};

use tokio::sync::mpsc;

use super::super::failed;
use crate::client::Refusal;

/// Bytes of one message.
pub const LONGEST: usize = 16 << 20;
/// Messages that wait, each way.
const QUEUE: usize = 64;

/// One line that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// It has more than [`LONGEST`] bytes, and was not kept.
    TooLong,
}

/// Reads lines from here until there are none, or nobody wants them.
///
/// # Errors
/// There is no thread.
pub fn lines(name: &str, from: impl Read + Send + 'static) -> Result<mpsc::Receiver<Line>, Refusal> {
    let (sender, lines) = mpsc::channel(QUEUE);
    let read = move || {
        let mut from = BufReader::new(from);
        while let Ok(Some(line)) = next(&mut from, LONGEST) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    thread(name, read).map(|_| lines)
}

/// Writes lines to there until there are no more; the thread that does is through when all are written.
///
/// # Errors
/// There is no thread.
pub fn written(
    name: &str,
    mut to: impl Write + Send + 'static,
) -> Result<(mpsc::Sender<String>, std::thread::JoinHandle<()>), Refusal> {
    let (sender, mut lines) = mpsc::channel::<String>(QUEUE);
    let write = move || {
        while let Some(mut line) = lines.blocking_recv() {
            line.push('\n');
            if to.write_all(line.as_bytes()).and_then(|()| to.flush()).is_err() {
                return;
            }
        }
    };
    Ok((sender, thread(name, write)?))
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, Refusal> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| failed("no_thread", format!("cannot start a thread: {error}")))
}

/// The next line that is not empty; none at the end. What comes before the end without an end of its own is a line.
fn next(from: &mut impl BufRead, longest: usize) -> io::Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
        if from.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let ended = line.pop_if(|last| *last == b'\n').is_some();
        if line.len() > longest {
            if !ended {
                from.skip_until(b'\n')?;
            }
            return Ok(Some(Line::TooLong));
        }
        line.pop_if(|last| *last == b'\r');
        if !line.is_empty() {
            return Ok(Some(Line::Whole(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_dropped_whole() {
        let mut from = &b"abcd\nabcde\n\r\nabcdefghij\nxyz"[..];
        let mut all = Vec::new();
        while let Some(line) = next(&mut from, 4).unwrap() {
            all.push(line);
        }
        let whole = |text: &[u8]| Line::Whole(text.to_vec());
        assert_eq!(all, [whole(b"abcd"), Line::TooLong, Line::TooLong, whole(b"xyz")]);
    }
}
