//! What a command leaves behind: one document on stdout or a short table, an error on stderr, an exit code.
//!
//! The keys and codes are a contract with scripts (see the README). Nothing else in `cli` may print.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::Table;
use serde_json::{Map, Value, json};

use super::field::Field;
use crate::client::Refusal;
use crate::domain::error::{Code, Error};
use crate::domain::name::is_invisible;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Short tables, for people.
    Table,
    /// One JSON document, or one a line for streams.
    Json,
    /// One YAML document, or one behind each `---` for streams.
    Yaml,
}

/// How a command ended that was not refused itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It ran, and what it looked at is not well.
    Failed,
    /// The answer is no.
    Denied,
    /// The answer waits for an approval.
    Pending,
    /// What it ran ended so.
    Code(u8),
}

/// What every command comes to.
pub type Answer = Result<Outcome, Refusal>;

/// Writes answers and errors in one format, or one field of the answers.
#[derive(Clone, Debug)]
pub struct Printer {
    format: Format,
    field: Option<Field>,
}

impl Outcome {
    /// The exit code.
    pub fn exit(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Denied => 3,
            Self::Pending => 4,
            Self::Code(code) => code,
        }
    }
}

/// The exit code of a refusal.
pub fn exit(code: Code) -> u8 {
    match code {
        Code::Conflict | Code::Internal => 1,
        Code::Invalid => 2,
        Code::Denied => 3,
        Code::NotFound => 5,
        Code::Unauthenticated => 6,
        Code::Unavailable | Code::Exhausted => 7,
    }
}

impl Printer {
    /// Prints in this format, or only this field.
    pub fn new(format: Format, field: Option<Field>) -> Self {
        Self { format, field }
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it prints for people.
    pub fn is_for_people(&self) -> bool {
        self.format == Format::Table && self.field.is_none()
    }

    /// Prints the document, or for people the table. A reader that went away is not an error.
    ///
    /// # Errors
    /// The field is not in the document, or stdout cannot be written for another reason, such as a full disk.
    pub fn print(&self, document: &Value, table: impl FnOnce() -> String) -> Answer {
        let text = self.shown(document, table)?;
        self.write(&text).map(|_| Outcome::Done)
    }

    /// Prints one document of a stream, or for people a line. Says whether anybody still reads.
    ///
    /// # Errors
    /// As [`Printer::print`].
    pub fn item(&self, document: &Value, line: impl FnOnce() -> String) -> Result<bool, Refusal> {
        let text = self.shown(document, line)?;
        match (self.format, &self.field) {
            (Format::Yaml, None) => self.write(&format!("---\n{text}")),
            _ => self.write(&text),
        }
    }

    /// Prints what is no document, such as a script, as it is.
    ///
    /// # Errors
    /// A field of it is asked for, which it does not have; or as [`Printer::print`].
    pub fn text(&self, text: &str) -> Answer {
        if self.field.is_some() {
            let message = "this prints no document that has fields; leave out --field";
            return Err(Error::new(Code::Invalid, "no_such_field", message).on("field").into());
        }
        self.write(text).map(|_| Outcome::Done)
    }

    fn shown(&self, document: &Value, table: impl FnOnce() -> String) -> Result<String, Refusal> {
        match (&self.field, self.format) {
            (Some(field), _) => {
                let value = field.of(document)?;
                Ok(if io::stdout().is_terminal() { visible(&value) } else { value })
            }
            (None, Format::Json) => Ok(document.to_string()),
            (None, Format::Yaml) => yaml(document),
            (None, Format::Table) => Ok(table()),
        }
    }

    fn write(&self, text: &str) -> Result<bool, Refusal> {
        let mut out = io::stdout().lock();
        written(writeln!(out, "{text}").and_then(|()| out.flush()))
    }

    /// Prints a refusal to stderr. There is nobody left to tell if that fails.
    pub fn fail(&self, refusal: &Refusal) {
        let document = || json!({ "error": error(refusal) });
        let text = match self.format {
            Format::Json => document().to_string(),
            Format::Yaml => yaml(&document()).unwrap_or_else(|_| document().to_string()),
            Format::Table => format!("{}: {}", red("error"), visible(&refusal.message)),
        };
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// What writing to stdout came to: false if the reader went away, which is not an error.
///
/// # Errors
/// It cannot be written for another reason, such as a full disk.
pub fn written(result: io::Result<()>) -> Result<bool, Refusal> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed("stdout", format!("cannot write to stdout: {error}"))),
    }
}

/// Long texts stay on one line: a token is read by what follows its key.
fn yaml(document: &Value) -> Result<String, Refusal> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(document, options);
    text.map(|text| text.trim_end().to_owned()).map_err(|error| failed("yaml", format!("cannot be YAML: {error}")))
}

/// A refusal as a document.
pub fn error(refusal: &Refusal) -> Value {
    sparse(json!({
        "code": word(refusal.code),
        "message": refusal.message,
        "detail": sparse(json!({
            "reason": refusal.reason,
            "field": refusal.field,
            "retry_after_ms": refusal.retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        })),
        "request_id": refusal.request_id,
    }))
}

/// Says something to a person, on stderr, whatever the format.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Something here did not work.
pub fn failed(reason: &'static str, message: String) -> Refusal {
    Error::new(Code::Internal, reason, message).into()
}

/// An optional text: none if it is empty.
pub fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The object without the keys that hold nothing.
pub fn sparse(document: Value) -> Value {
    match document {
        Value::Object(map) => {
            let given = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// JSON that the broker sent as text. What does not parse is shown as the text that it is.
pub fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A table with a heading.
pub fn rows<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = bare();
    table.set_header(heading);
    for row in rows {
        table.add_row(row.map(|cell| visible(&cell)));
    }
    trimmed(&table)
}

/// A table of names and values; those without a value are left out.
pub fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> String {
    let mut table = bare();
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([name.to_owned(), visible(value)]);
    }
    trimmed(&table)
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
}

/// Without the padding around it; what is indented within stays so.
fn trimmed(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The text with control, bidirectional and invisible characters escaped: what others wrote does not steer this
/// terminal, and reads as what it is.
pub fn visible(text: &str) -> String {
    let hides = |c: char| (c.is_control() && c != '\n') || is_invisible(c);
    text.chars().map(|c| if hides(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn red(text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stderr().is_terminal() { text.to_owned() } else { format!("\x1b[31m{text}\x1b[0m") }
}

fn word(code: Code) -> &'static str {
    match code {
        Code::Invalid => "invalid",
        Code::Unauthenticated => "unauthenticated",
        Code::Denied => "denied",
        Code::NotFound => "not_found",
        Code::Conflict => "conflict",
        Code::Exhausted => "exhausted",
        Code::Unavailable => "unavailable",
        Code::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_wrong_has_its_exit_code() {
        let table = [
            (Code::Conflict, 1),
            (Code::Internal, 1),
            (Code::Invalid, 2),
            (Code::Denied, 3),
            (Code::NotFound, 5),
            (Code::Unauthenticated, 6),
            (Code::Unavailable, 7),
            (Code::Exhausted, 7),
        ];
        for (code, expected) in table {
            assert_eq!(exit(code), expected, "{code:?}");
        }
        let outcomes = [Outcome::Done, Outcome::Failed, Outcome::Denied, Outcome::Pending];
        assert_eq!(outcomes.map(Outcome::exit), [0, 1, 3, 4]);
    }

    #[test]
    fn an_error_names_kind_reason_and_field() {
        let refusal = Refusal::from(Error::denied("scope_widened", "too wide").on("scope"));
        let detail = json!({ "reason": "scope_widened", "field": "scope" });
        let expected = json!({ "code": "denied", "message": "too wide", "detail": detail });
        assert_eq!(error(&refusal), expected);
    }

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        let table = rows(["purpose"], [["a\u{1b}[2Jb".to_owned()]]);
        assert!(!table.contains('\u{1b}') && table.contains("\\u{1b}[2Jb"), "{table:?}");
    }

    #[test]
    fn lines_of_one_value_stay_below_each_other() {
        let table = pairs([("detail", "{\n  1\n}"), ("empty", ""), ("seq", "7")]);
        assert_eq!(table, "detail  {\n          1\n        }\nseq     7");
    }

    #[test]
    fn empty_optional_keys_are_absent() {
        assert_eq!(sparse(json!({ "parent": given(""), "root": given("grt_1") })), json!({ "root": "grt_1" }));
    }
}
