//! A sign of life while something long goes on: on stderr, for people at a terminal, and gone afterwards.

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::output::{Format, Printer};

/// How far it has come; what was drawn is wiped when this is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Nothing is drawn until there is something to say, and never where programs read.
    pub fn of(printer: &Printer) -> Self {
        let target = match printer.format() {
            // Draws nothing where stderr is no terminal.
            Format::Table => ProgressDrawTarget::stderr(),
            Format::Json | Format::Yaml => ProgressDrawTarget::hidden(),
        };
        Self(ProgressBar::with_draw_target(None, target))
    }

    /// Says how far it is.
    pub fn say(&self, text: String) {
        self.0.set_style(indicatif::ProgressStyle::default_spinner());
        self.0.set_message(text);
        self.0.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
