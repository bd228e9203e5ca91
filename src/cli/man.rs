//! `belay man`: the manual, made from the same descriptions as `--help`.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use super::Cli;
use super::output::{Answer, Printer};
use crate::client::Refusal;
use crate::domain::error::{Code, Error};

/// Where it goes.
#[derive(Debug, Args)]
pub struct Command {
    /// Write belay.1 and a page for each command to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Command {
    /// Does it.
    pub fn run(self, printer: &Printer) -> Answer {
        let Some(directory) = self.out else {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page).map_err(|error| unwritten(Path::new("the page"), &error))?;
            return printer.text(String::from_utf8_lossy(&page).trim_end());
        };
        let pages = std::fs::create_dir_all(&directory).and_then(|()| written(&directory));
        let pages = pages.map_err(|error| unwritten(&directory, &error))?;
        printer.print(&json!({ "pages": pages }), || format!("{} pages in {}", pages.len(), directory.display()))
    }
}

/// The paths of the pages, each a file that is complete.
fn written(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut root = Cli::command();
    root.build();
    let (mut left, mut pages) = (vec![root], Vec::new());
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().cloned());
        pages.push(Man::new(command).generate_to(directory)?);
    }
    pages.sort();
    Ok(pages)
}

fn unwritten(place: &Path, error: &io::Error) -> Refusal {
    let message = format!("the manual cannot be written to {}: {error}", place.display());
    Error::new(Code::Invalid, "not_written", message).on("out").into()
}
