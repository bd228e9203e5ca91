//! The log of the process, whose levels a reload may change.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The log is one for the process, and so are its levels.
static LEVELS: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Begins the log, on stderr: lines for a terminal, JSON for whatever collects a broker's. `BELAY_LOG` is a level,
/// or levels by module: `info`, `warn,belay::ledger=debug`. Once, before anything is logged.
pub fn begin(serves: bool) {
    let default = Targets::new().with_default(if serves { LevelFilter::INFO } else { LevelFilter::WARN });
    let (levels, handle) = reload::Layer::new(asked().unwrap_or(default));
    let terminal = std::io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let log = tracing_subscriber::registry().with(levels);
    if serves && !terminal {
        // The current span says all: a request has one.
        log.with(lines.json().with_span_list(false)).init()
    } else {
        log.with(lines).init()
    }
    let first = LEVELS.set(handle);
    debug_assert!(first.is_ok(), "the log begins once");
}

/// Changes the levels, unless `BELAY_LOG` says which, or nothing is logged in this process.
pub fn set(text: &str) {
    if let (None, Some(levels), Some(handle)) = (asked(), levels(text), LEVELS.get())
        && let Err(error) = handle.reload(levels)
    {
        tracing::error!(%error, "the log's levels were not changed");
    }
}

/// The levels that a text names. A word that is not a level is refused: as the name of a module it would log all.
pub(super) fn levels(text: &str) -> Option<Targets> {
    let level = |part: &str| {
        let (module, level) = part.rsplit_once('=').unwrap_or(("any", part));
        let named = matches!(level, "error" | "warn" | "info" | "debug" | "trace" | "off");
        named && !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
    };
    text.split(',').all(level).then(|| text.parse().ok())?
}

fn asked() -> Option<Targets> {
    std::env::var("BELAY_LOG").ok().filter(|levels| !levels.is_empty())?.parse().ok()
}
