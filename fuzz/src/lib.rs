//! What every target holds a refusal to.

pub mod key;

use belay::domain::error::Error;

/// A message may quote 64 characters of the input, each escaped to ten.
const LONGEST: usize = 1200;

/// A refusal is one lower-case line of bounded length, with a reason for programs.
pub fn is_fit_to_print(error: &Error) {
    assert!(!error.reason.is_empty());
    is_one_line(&error.message);
}

/// Whether a line can go to a terminal and a log, whatever the input held.
pub fn is_one_line(text: &str) {
    assert!(!text.is_empty() && text.len() <= LONGEST, "{} bytes: {text:.200}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(!text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
}
