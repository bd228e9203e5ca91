//! The first figures: issuing a token and authorizing a call, beside a bare tonic call with the same messages.
//!
//! Three processes, as in use: the real `belay serve`, a floor that only answers, and the client that loads both
//! in turn. The last two are this program again. `docs/PERFORMANCE.md` says how to read what it prints.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::large_futures,
    clippy::print_stdout,
    reason = "a measurement that cannot go on says so by failing, reads the clock and prints"
)]

#[path = "../../tests/measured/certificates.rs"]
mod certificates;
mod client;
mod floor;
mod load;
mod stage;
mod table;
mod tokens;

use serde::{Deserialize, Serialize};

use stage::Stage;

/// Connections to each server, and calls in flight on each of them.
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 16;

/// What is called for the length of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Load {
    /// `Tokens/Issue` of the floor.
    FloorIssue,
    /// `Tokens/Issue` under a root grant: recorded, durable, signed.
    Issue,
    /// `Decisions/Authorize` of the floor.
    FloorAuthorize,
    /// `Decisions/Authorize` with a token of the caller's.
    Authorize,
    /// `Grants/Request` with a token: two events.
    GrantAndToken,
}

impl Load {
    const ALL: [Self; 5] = [Self::FloorIssue, Self::Issue, Self::FloorAuthorize, Self::Authorize, Self::GrantAndToken];

    fn name(self) -> &'static str {
        match self {
            Self::FloorIssue => "floor_issue",
            Self::Issue => "issue",
            Self::FloorAuthorize => "floor_authorize",
            Self::Authorize => "authorize",
            Self::GrantAndToken => "grant_and_token",
        }
    }

    /// What it is held against.
    fn floor(self) -> Self {
        match self {
            Self::FloorAuthorize | Self::Authorize => Self::FloorAuthorize,
            Self::FloorIssue | Self::Issue | Self::GrantAndToken => Self::FloorIssue,
        }
    }
}

/// What one window came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Window {
    load: Load,
    calls: usize,
    seconds: f64,
    p50_us: u32,
    p99_us: u32,
    /// Tokens that were checked after the window, each of them.
    verified: usize,
    /// Calls that were denied because the decision could not be recorded in time; not among the calls.
    unrecorded: usize,
    /// Processor time of the server, all of it, per call. Other programs on the machine change it least.
    #[serde(default)]
    cpu_us: f64,
}

/// How long it takes, and of which program.
struct Plan<'a> {
    rounds: usize,
    millis: u64,
    broker: &'a str,
}

const BROKER: &str = env!("CARGO_BIN_EXE_belay");

impl<'a> Plan<'a> {
    fn of(mut arguments: &[&'a str]) -> Self {
        let mut plan = Self { rounds: 5, millis: 2000, broker: BROKER };
        while let [name, value, rest @ ..] = arguments {
            match *name {
                "--rounds" => plan.rounds = value.parse().unwrap(),
                "--millis" => plan.millis = value.parse().unwrap(),
                "--broker" => plan.broker = value,
                _ => break,
            }
            arguments = rest;
        }
        assert!(arguments.is_empty(), "usage: first_figures [--smoke] [--rounds N] [--millis N] [--broker PROGRAM]");
        plan
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["floor", directory, token_bytes] => floor::serve(directory.as_ref(), token_bytes.parse().unwrap()),
        ["client", setup] => client::run(&serde_json::from_str(setup).unwrap()),
        ["--smoke"] => measure(&Plan { rounds: 1, millis: 100, broker: BROKER }),
        _ => measure(&Plan::of(&arguments)),
    }
}

fn measure(plan: &Plan<'_>) {
    let mut stage = Stage::build(plan.broker);
    print!("{}", stage.describe(plan));
    for load in Load::ALL {
        stage.window(load, plan.millis / 2);
    }
    let mut windows = Vec::new();
    for round in 0..plan.rounds {
        // Whatever is slower for coming later is not so in every round.
        let mut order = Load::ALL;
        order.rotate_left(round % Load::ALL.len());
        windows.extend(order.map(|load| stage.window(load, plan.millis)));
    }
    print!("{}", table::figures(&windows));
    print!("{}", stage.end());
}
