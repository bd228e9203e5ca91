//! The shape of the command line, without a broker.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = words(line);
    Cli::try_parse_from(&words)
}

/// Splits at spaces, except within single quotes, as a shell does.
fn words(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    for (at, part) in line.replace("\\\n", "").split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(OsString::from)),
            _ => words.push(part.into()),
        }
    }
    words
}

fn refused(line: &str) -> String {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

fn leaves(command: &clap::Command, into: &mut Vec<clap::Command>) {
    match command.has_subcommands() {
        true => command.get_subcommands().for_each(|child| leaves(child, into)),
        false => into.push(command.clone()),
    }
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_that_parses() {
    let mut all = Vec::new();
    leaves(&Cli::command(), &mut all);
    assert!(all.len() > 30, "{}", all.len());
    for command in all {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let name = command.get_name();
        let example = help.strip_prefix("Example:\n  ").unwrap_or_else(|| panic!("{name} has no example"));
        parse(example).unwrap_or_else(|error| panic!("{example}\n{error}"));
    }
}

#[test]
fn the_words_of_the_contract_are_taken() {
    for line in [
        "belay try -o json",
        "belay -o json serve --dev --data d --grpc 127.0.0.1:0 --http 127.0.0.1:0",
        "belay serve --config f",
        "belay config check f -o json",
        "belay init --config f --recover ana --role admin,auditor --out d",
        "belay agent register a --owner o --purpose p --ceiling x:y@z x:y@w --max-ttl 1h --label k=v l=w",
        "belay agent enroll --join-token - --out d --addr https://127.0.0.1:1",
        "belay grant request --task t --scope a:b@c --scope d:e@f --audience x --ttl 15m --token --idempotency-key k",
        "belay task start p --ttl 5m --on-behalf-of @f --idempotency-key k",
        "belay grant delegate --parent g --to a --scope a:b@c --ttl 5m",
        "belay token verify -",
        "belay revoke grt_x tok_y agent:z --reason r --dry-run",
        "belay revoke grt_x --reason r --wait 5s",
        "belay revocation show rev_x --wait 1m",
        "belay freeze --scope a:b@c --where sensitivity>=confidential --reason r",
        "belay freeze list -o json",
        "belay thaw frz_x",
        "belay task suspend tsk_x --reason r",
        "belay --addr https://h:1 --identity d status",
        "belay status --addr https://h:1 --identity d --output json",
        "belay status --output yaml --field checkpoint.size",
        "belay authorize --token - --tool x --action a --resource r --args @f --destination d:1 --idempotency-key k",
        "belay audit tail --tree grt_x --agent a --kind revoked --actor operator:o --from 7 -o json",
        "belay man --out d",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}\n{error}"));
    }
}

#[test]
fn a_flag_that_is_not_built_is_refused_by_name() {
    for (line, flag) in [
        ("belay serve --dev --config f", "--config"),
        ("belay token verify --offline d t", "--offline"),
        ("belay status -o toml", "toml"),
        ("belay audit verify", "verify"),
    ] {
        assert!(refused(line).contains(flag), "{line}");
    }
}

#[test]
fn what_must_be_given_is_asked_for() {
    for (line, flag) in [
        ("belay serve", "--dev"),
        ("belay init", "--config"),
        ("belay config check", "FILE"),
        ("belay revoke grt_x", "--reason"),
        ("belay revoke --reason r", "TARGET"),
        ("belay freeze --scope a:b@c", "--reason"),
        ("belay freeze --reason r", "--scope"),
        ("belay grant request --task t", "--scope"),
        ("belay operator add ana", "--role"),
        ("belay agent enroll --join-token x", "--out"),
    ] {
        assert!(refused(line).contains(flag), "{line}");
    }
}

#[test]
fn a_lifetime_of_nothing_is_refused() {
    for ttl in ["0s", "15", "-5m", "999ms", "8d", "forever"] {
        refused(&format!("belay task start p --ttl={ttl}"));
    }
}

#[test]
fn a_usage_error_is_in_the_format_that_was_asked_for() {
    for line in
        ["belay -o json x", "belay x -ojson", "belay x --output=json", "belay x --output json", "belay x -o=json"]
    {
        assert_eq!(wanted(&words(line)), Format::Json, "{line}");
        assert_eq!(wanted(&words(&line.replace("json", "yaml"))), Format::Yaml, "{line}");
    }
    assert_eq!(wanted(&words("belay -o table json yaml")), Format::Table);
}

#[test]
fn a_usage_error_on_one_line_still_names_the_flag() {
    let message = first_paragraph(&parse("belay revoke grt_x").unwrap_err());
    assert!(message.contains("--reason") && !message.contains('\n') && !message.starts_with("error"), "{message}");
}
