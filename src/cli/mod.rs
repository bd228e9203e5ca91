//! The command line: one file per noun. An ordinary gRPC client, with no rules of its own.
//!
//! Names, keys and exit codes are a contract with scripts. A flag that is not built is not accepted:
//! clap refuses it by name, with exit 2.

pub mod output;

mod agent;
mod approval;
mod audit;
mod authorize;
mod backend;
mod calls;
mod catalog;
mod cert;
mod config;
mod connect;
mod doctor;
mod dpop;
mod enroll;
mod field;
mod files;
mod freeze;
mod grant;
mod guard;
mod init;
mod keys;
mod lease;
mod man;
mod operator;
mod pep;
mod policy;
mod progress;
mod radius;
mod report;
mod revocation;
mod revoke;
mod run;
mod secret;
mod serve;
mod status;
mod story;
mod tail;
mod task;
mod token;
mod tree;
mod upstream;
mod waiting;
mod weights;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use self::connect::Global;
use self::output::{Answer, Format, Printer, exit, failed, written};
use crate::domain::error::{Code, Error};
use crate::domain::time::Span;

/// The exit codes, as scripts rely on them.
const EXIT: &str = "Exit codes:
  0 done, 1 failed, 2 usage or configuration, 3 denied, 4 pending approval,
  5 not found, 6 not authenticated, 7 unavailable";

const AUTHORIZE: &str = "Example:
  belay --identity ./coder authorize --token @token.txt \\
      --tool github --action issues.read --resource repo/acme/web";

const RADIUS: &str = "Example:
  belay radius agent:coder --if 'github:workflows.write@repo/acme/web'";

/// Of `belay freeze --help`.
const FREEZE: &str = "Examples:
  belay freeze --scope 'postgres:write.*@prod/**' --reason 'code freeze'
  belay freeze --scope 'github:*@**' --where 'sensitivity>=confidential' --reason 'incident 7'
  belay freeze list";

/// What the audit says where a reason is optional and none was given.
const NO_REASON: &str = "no reason given";

/// Short-lived credentials for AI agents: task-scoped grants, a decision at every call, one revoke that ends it all.
#[derive(Debug, Parser)]
#[command(name = "belay", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXIT)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell the whole story on a throw-away broker, with real agent processes
    #[command(after_help = "Example:\n  belay try")]
    Try(story::Command),
    /// Run a broker
    #[command(after_help = "Example:\n  belay serve --dev --grpc 127.0.0.1:0 --http 127.0.0.1:0")]
    Serve(serve::Command),
    /// Make a broker's data directory, its keys and its first operator
    #[command(after_help = "Example:\n  belay init --config /etc/belay/belay.toml --operator ana --out ./ana")]
    Init(init::Command),
    /// Check a configuration, or print a sample
    #[command(subcommand)]
    Config(config::Command),
    /// Show how the broker is
    #[command(after_help = "Example:\n  belay status -o json")]
    Status,
    /// Register, enroll and halt agents
    #[command(subcommand)]
    Agent(agent::Command),
    /// Add, enroll and remove operators
    #[command(subcommand)]
    Operator(operator::Command),
    /// Register, enroll and retire enforcement points
    #[command(subcommand)]
    Pep(pep::Command),
    /// Start and end tasks
    #[command(subcommand)]
    Task(task::Command),
    /// Ask for grants, delegate and renew them
    #[command(subcommand)]
    Grant(grant::Command),
    /// Decide what waits for a human
    #[command(subcommand)]
    Approval(approval::Command),
    /// Issue, verify and read tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Issue certificates under a grant
    #[command(subcommand)]
    Cert(cert::Command),
    /// Add, check and remove the systems in which secrets are leased
    #[command(subcommand)]
    Backend(backend::Command),
    /// Lease secrets in real systems under a grant
    #[command(subcommand)]
    Lease(lease::Command),
    /// Hold the secrets of tools' own APIs, for enforcement points to put into calls
    #[command(subcommand)]
    Upstream(upstream::Command),
    /// Decide one tool call now: exit 0 allows, 3 denies
    #[command(after_help = AUTHORIZE)]
    Authorize(authorize::Command),
    /// Say what became of a call that was allowed
    #[command(
        after_help = "Example:\n  belay --identity ./gateway report inv_01m826b1x1ec8vm5xb46v44k2n --outcome done"
    )]
    Report(report::Command),
    /// Stand between an agent and what it uses, and have every call decided
    #[command(subcommand)]
    Guard(guard::Command),
    /// Prove that the hook of a coding agent decides, with a broker of its own
    #[command(after_help = "Example:\n  belay doctor claude --dir ~/src/web")]
    Doctor(doctor::Command),
    /// Run a command under a grant of its own, which ends when the command does
    #[command(after_help = run::EXAMPLE)]
    Run(run::Command),
    /// Cut grants, tokens, tasks or agents, and everything below them, at once
    #[command(
        after_help = "Example:\n  belay revoke grt_01m826b20gfdtagbpvxzh7napv agent:coder --reason 'leaked' --wait 10s"
    )]
    Revoke(revoke::Command),
    /// Show what came of a revocation, or get a signed receipt of it
    #[command(subcommand)]
    Revocation(revocation::Command),
    /// Void whatever authority matches a scope, whoever holds it, until it is thawed
    #[command(after_help = FREEZE)]
    Freeze(freeze::Command),
    /// Lift a freeze
    #[command(after_help = "Example:\n  belay thaw frz_01m826b1x1ec8vm5xb46v44k2n --reason 'mended'")]
    Thaw(freeze::Thaw),
    /// Show what a target can reach, what is live under it, and until when
    #[command(after_help = RADIUS)]
    Radius(radius::Command),
    /// Say which tools and resources there are, and where reaching one leads
    #[command(subcommand)]
    Catalog(catalog::Command),
    /// Say what may be done: check, test, apply and explain policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Read the log: who did what to whom, for whom, why
    #[command(subcommand)]
    Audit(audit::Command),
    /// Explain where an id comes from
    #[command(after_help = "Example:\n  belay why tok_01m826b20ged4sa18zrmrkb2kr")]
    Why(why::Command),
    /// List, rotate and taint the keys that the broker signs with
    #[command(subcommand)]
    Keys(keys::Command),
    /// Print the manual, or write all its pages
    #[command(after_help = "Example:\n  belay man --out ~/.local/share/man/man1")]
    Man(man::Command),
    /// Print a completion script
    #[command(after_help = "Example:\n  belay completions bash")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Reads the arguments. What is not to be run is answered here: help, the version, a usage error.
    ///
    /// # Errors
    /// The exit code of that answer.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        Self::try_parse_from(&arguments).map_err(|error| usage(&error, wanted(&arguments)))
    }

    /// Begins the log of this process; a broker logs more than a command does.
    pub fn begin_log(&self) {
        crate::server::begin_log(matches!(self.command, Command::Serve(_)));
    }

    /// Does what was asked for, and says how it went.
    pub fn run(self) -> ExitCode {
        let printer = self.global.printer();
        match dispatch(self.command, &self.global) {
            Ok(outcome) => ExitCode::from(outcome.exit()),
            Err(refusal) => {
                printer.fail(&refusal);
                ExitCode::from(exit(refusal.code))
            }
        }
    }
}

fn dispatch(command: Command, global: &Global) -> Answer {
    match command {
        Command::Serve(serve) => serve.run(global),
        Command::Man(man) => man.run(&global.printer()),
        Command::Init(init) => init.run(global),
        Command::Config(config) => config.run(global),
        Command::Completions { shell } => completions(&global.printer(), shell),
        Command::Try(story) => wait(story.run(global.printer())),
        Command::Status => wait(status::run(global)),
        Command::Agent(agent) => wait(agent.run(global)),
        Command::Operator(operator) => wait(operator.run(global)),
        Command::Pep(pep) => wait(pep.run(global)),
        Command::Task(task) => wait(task.run(global)),
        Command::Grant(grant) => wait(grant.run(global)),
        Command::Approval(approval) => wait(approval.run(global)),
        Command::Token(token) => wait(token.run(global)),
        Command::Cert(cert) => wait(cert.run(global)),
        Command::Backend(backend) => wait(backend.run(global)),
        Command::Lease(lease) => wait(lease.run(global)),
        Command::Upstream(upstream) => wait(upstream.run(global)),
        Command::Authorize(call) => wait(call.run(global)),
        Command::Report(report) => wait(report.run(global)),
        Command::Guard(guard) => guard.run(global),
        Command::Doctor(doctor) => wait(doctor.run(global)),
        Command::Run(run) => wait(run.run(global)),
        Command::Revoke(revoke) => wait(revoke.run(global)),
        Command::Revocation(revocation) => wait(revocation.run(global)),
        Command::Freeze(freeze) => wait(freeze.run(global)),
        Command::Thaw(thaw) => wait(thaw.run(global)),
        Command::Radius(radius) => wait(radius.run(global)),
        Command::Catalog(catalog) => wait(catalog.run(global)),
        Command::Policy(policy) => wait(policy.run(global)),
        Command::Audit(audit) => wait(audit.run(global)),
        Command::Keys(keys) => wait(keys.run(global)),
        Command::Why(why) => wait(why.run(global)),
    }
}

/// Runs one command to its end. The broker brings a runtime of its own.
fn wait(command: impl Future<Output = Answer>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| failed("no_runtime", format!("cannot start: {error}")))?.block_on(command)
}

fn completions(printer: &Printer, shell: clap_complete::Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "belay", &mut script);
    printer.text(String::from_utf8_lossy(&script).trim_end())
}

/// A lifetime in milliseconds. Zero is refused here: on the wire it means "not given".
fn lifetime(text: &str) -> Result<i64, Error> {
    Ok(Span::lifetime(text.parse::<Span>()?.as_millis())?.as_millis())
}

fn usage(error: &clap::Error, format: Format) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    let printer = Printer::new(format, None);
    if !error.use_stderr() {
        // Help and the version are answers like any other.
        return match written(error.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout()))) {
            Ok(_) => code,
            Err(refusal) => {
                printer.fail(&refusal);
                ExitCode::from(exit(refusal.code))
            }
        };
    }
    if format == Format::Table {
        // There is nobody left to tell if the terminal is gone.
        let _ = error.print();
    } else {
        printer.fail(&Error::new(Code::Invalid, "usage", first_paragraph(error)).into());
    }
    code
}

/// What was wrong, on one line; the flags at fault stand on lines of their own.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// How errors are to be printed although the arguments did not parse.
fn wanted(arguments: &[OsString]) -> Format {
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let apart = words.windows(2).filter(|pair| matches!(pair[0], "-o" | "--output")).map(|pair| pair[1]);
    let joined =
        words.iter().filter_map(|word| ["--output=", "-o=", "-o"].iter().find_map(|flag| word.strip_prefix(flag)));
    let named = |word: &str| <Format as ValueEnum>::from_str(word, false).ok();
    let typed = apart.chain(joined).find_map(named);
    let set = || std::env::var("BELAY_OUTPUT").ok().and_then(|word| named(&word));
    typed.or_else(set).unwrap_or(Format::Table)
}

#[cfg(test)]
mod tests;
