use super::*;

const SAMPLE: &str = include_str!("../../../deploy/belay.toml");
const NEEDED: &str = "trust_domain = 'x'\ndata = '/d'\n";

#[test]
fn the_shipped_sample_is_a_configuration() {
    let config = Config::parse(SAMPLE).unwrap();
    assert_eq!(config.trust_domain.as_str(), "agents.example.com");
    assert_eq!(config.issuer().unwrap().as_str(), "https://belay.example.com:7441");
}

#[test]
fn the_sample_names_every_key_and_its_comments_tell_the_defaults() {
    let (above, tables) = SAMPLE.split_once("# [[subject_issuer]]\n").unwrap();
    let (table, quotas) = tables.split_once("# [quotas]\n").unwrap();
    let (above, table) = (uncommented(above, KEYS), uncommented(table, subject::KEYS));
    let quotas = uncommented(quotas, quotas::KEYS);
    let all = format!("{above}\n[[subject_issuer]]\n{table}\n[quotas]\n{quotas}");
    let (shown, sample) = (Config::parse(&all).unwrap(), Config::parse(SAMPLE).unwrap());
    assert!(shown.http_certificate.is_some() && shown.http_key.is_some() && shown.subject_issuer.len() == 1);
    let defaults = Config { http_certificate: None, http_key: None, subject_issuer: Vec::new(), ..shown };
    assert_eq!(defaults, sample);
}

/// A part of the sample with what is commented out, after a look that it names each of these keys once.
fn uncommented(text: &str, keys: read::Known) -> String {
    let is_key = |line: &str, key: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "));
    let is_one = |line: &str| keys.iter().any(|(key, _)| is_key(line, key));
    let lines: Vec<&str> =
        text.lines().map(|line| line.strip_prefix("# ").filter(|key| is_one(key)).unwrap_or(line)).collect();
    for (key, _) in keys.iter().filter(|(key, _)| !["subject_issuer", "quotas"].contains(key)) {
        assert_eq!(lines.iter().filter(|line| is_key(line, key)).count(), 1, "{key}");
    }
    lines.join("\n")
}

#[test]
fn every_field_has_its_key() {
    // Without one of them this does not compile.
    let Config {
        trust_domain: _,
        issuer: _,
        data: _,
        grpc: _,
        http: _,
        names: _,
        http_certificate: _,
        http_key: _,
        snapshot_every: _,
        request_timeout: _,
        drain: _,
        log: _,
        subject_issuer: _,
        quotas: _,
    } = Config::parse(SAMPLE).unwrap();
    assert_eq!(KEYS.len(), 14);
}

/// Each line on top of what is needed, and the key that the error has to name.
const WRONG: &[(&str, &str)] = &[
    ("issuer = 7", "issuer"),
    ("issuer = ''", "issuer"),
    ("issuer = 'http://hunter2.example.com'", "issuer"),
    ("issuer = 'hunter2.example.com'", "issuer"),
    ("issuer = 'https://user:hunter2@example.com'", "issuer"),
    ("issuer = 'https://example.com/?hunter2'", "issuer"),
    ("issuer = 'https://example.com/ hunter2'", "issuer"),
    ("issuer = 'https://'", "issuer"),
    ("grpc = 'hunter2'", "grpc"),
    ("grpc = 7440", "grpc"),
    ("grpc = '127.0.0.1'", "grpc"),
    ("grpc = '127.0.0.1:70000'", "grpc"),
    ("grpc = ':7440'", "grpc"),
    ("grpc = 'localhost:7440'", "grpc"),
    ("http = []", "http"),
    ("[http]\nport = 1", "http"),
    ("http = ''", "http"),
    ("quotas = 7", "quotas"),
    ("[[quotas]]\nagent_rate = 7", "quotas"),
    ("[quotas]\nagent_rate = 0", "quotas"),
    ("[quotas]\nagent_rate = -1", "quotas"),
    ("[quotas]\nagent_rate = 1000001", "quotas"),
    ("[quotas]\nowner_under_way = '64'", "quotas"),
    ("[quotas]\nenforcement_point_under_way = 1.5", "quotas"),
    ("[quotas]\noperator_rate = 1", "quotas"),
    ("grpc = '127.0.0.1:1'\nhttp = '127.0.0.1:1'", "http"),
    ("grpc = '0.0.0.0:1'\nhttp = '127.0.0.1:1'", "http"),
    ("grpc = '127.0.0.1:1'\nhttp = '[::]:1'", "http"),
    ("http = '0.0.0.0:7440'", "http"),
    ("names = 'hunter2'", "names"),
    ("names = [7]", "names"),
    ("names = ['']", "names"),
    ("names = ['https://a.example.com']", "names"),
    ("names = ['a.example.com:7440']", "names"),
    ("names = ['*.example.com']", "names"),
    ("names = ['a b']", "names"),
    ("names = ['a.example.com', 'A.example.com']", "names"),
    ("names = ['::1', '0:0:0:0:0:0:0:1']", "names"),
    ("names = ['0.0.0.0']", "names"),
    ("names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q']", "names"),
    ("http_certificate = '/c'", "http_key"),
    ("http_key = '/hunter2'", "http_certificate"),
    ("http_certificate = 'c'\nhttp_key = '/k'", "http_certificate"),
    ("http_certificate = '/c'\nhttp_key = '''-----BEGIN PRIVATE KEY-----\nhunter2'''", "http_key"),
    ("snapshot_every = 0", "snapshot_every"),
    ("snapshot_every = -1", "snapshot_every"),
    ("snapshot_every = 1.5", "snapshot_every"),
    ("snapshot_every = 99999999999999999999", "snapshot_every"),
    ("http_key = 0x7e57ab1e0123456789abcdef", "http_key"),
    ("http_key = -99999999999999999999", "http_key"),
    ("snapshot_every = '20000'", "snapshot_every"),
    ("drain = 10", "drain"),
    ("drain = '10'", "drain"),
    ("drain = '0s'", "drain"),
    ("drain = '-1s'", "drain"),
    ("drain = '999ms'", "drain"),
    ("drain = '11m'", "drain"),
    ("drain = '1e9h'", "drain"),
    ("drain = ''", "drain"),
    ("request_timeout = true", "request_timeout"),
    ("request_timeout = '0s'", "request_timeout"),
    ("request_timeout = 1979-05-27", "request_timeout"),
    ("log = 'hunter2'", "log"),
    ("log = 'INFORMATION'", "log"),
    ("log = 3", "log"),
    ("log = ''", "log"),
    ("log = 'info,hunter2'", "log"),
    ("log = 'belay=loud'", "log"),
    ("log = 'belay[{hunter2}]=info'", "log"),
    ("subject_issuer = 'hunter2'", "subject_issuer"),
    ("subject_issuer = ['hunter2']", "subject_issuer"),
    ("[subject_issuer]\nissuer = 'hunter2'", "subject_issuer"),
    ("[[subject_issuer]]", "`issuer` in `[[subject_issuer]]` 1 is missing"),
    ("[[subject_issuer]]\nissuer = 'hunter2'", "`audience`"),
    ("[[subject_issuer]]\nissuer = 'hunter2'\naudience = 'hunter2'", "`jwks`"),
    ("[[subject_issuer]]\nissuer = 'hunter2'\naudience = ['hunter2']\njwks = '/hunter2'", "`audience`"),
    ("[[subject_issuer]]\nissuer = ''\naudience = 'hunter2'\njwks = '/hunter2'", "`issuer`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = 'hunter2'", "`jwks`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = 'https://hunter2'", "`jwks`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = '/k'\nclaim = ''", "`claim`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = '/k'\nclaim = ['hunter2']", "`claim`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = '/k'\nprefix = ' hunter2'", "`prefix`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = '/k'\nprefix = 7", "`prefix`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = '/k'\nprefix = \"hunter2\\u200b\"", "`prefix`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = '/k'\nsecret = 'hunter2'", "`secret`"),
    ("[[subject_issuer]]\nissuer = 'a'\naudience = 'b'\njwks = hunter2", "`jwks`"),
    ("[[subject_issuer]]\nissuer = 'https://x'\naudience = 'b'\njwks = '/hunter2'", "the broker's own"),
    ("subject_issuer = [{ issuer = 'a', audience = 'b', jwks = '/k' }, { issuer = 'c' }]", "`[[subject_issuer]]` 2"),
    ("data = '/e'", "data"),
    ("log = hunter2", "log"),
    ("log = 'hunter2", "log"),
    ("issuerr = 'hunter2'", "issuerr"),
    ("password = 'hunter2'", "password"),
    ("[tls]\nkey = 'hunter2'", "tls"),
    ("tls.key = 'hunter2'", "tls"),
    ("= 'hunter2'", "line 3"),
    ("hunter2", "line 3"),
];

/// How a parser may write `0x7e57ab1e0123456789abcdef`.
const LARGE: &str = "39101095";

#[test]
fn what_is_wrong_is_named_in_one_line_that_shows_no_value() {
    Config::parse(NEEDED).unwrap();
    let needed: &[(&str, &str)] = &[
        ("data = '/d'", "trust_domain"),
        ("trust_domain = 'x'", "data"),
        ("trust_domain = 'Hunter2'\ndata = '/d'", "trust_domain"),
        ("trust_domain = ''\ndata = '/d'", "trust_domain"),
        ("trust_domain = 'x'\ndata = 7", "data"),
        ("trust_domain = 'x'\ndata = ''", "data"),
        ("trust_domain = 'x'\ndata = 'hunter2'", "data"),
        ("trust_domain = 'x'\ndata = './d'", "data"),
        ("trust_domian = 'x'\ndata = '/d'", "trust_domian"),
    ];
    let long = (format!("trust_domain = '{}'\ndata = '/d'", "x".repeat(161)), "trust_domain");
    let further = WRONG.iter().map(|(line, key)| (format!("{NEEDED}{line}"), *key));
    let cases = needed.iter().map(|(text, key)| ((*text).to_owned(), *key)).chain(further).chain([long]);
    for (text, named) in cases {
        let error = Config::parse(&text).expect_err(&text);
        assert_eq!((error.code, error.reason), (Code::Invalid, "configuration"), "{text}");
        assert!(error.message.contains(named), "{text}: {error}");
        assert!(!error.message.contains(char::is_control) && error.message.len() < 400, "{text}: {error}");
        assert!(!error.message.to_lowercase().contains("hunter2"), "{text}: {error}");
        assert!(!error.message.contains(LARGE) && !error.message.contains("9999"), "{text}: {error}");
    }
}

#[test]
fn what_is_right_is_taken() {
    let right = [
        "issuer = 'https://example.com/belay'",
        "grpc = '[::1]:7440'",
        "grpc = '127.0.0.1:0'\nhttp = '127.0.0.1:0'",
        "grpc = '127.0.0.1:7441'\nhttp = '127.0.0.2:7441'",
        "names = []",
        "names = ['belay.example.com', 'belay', '192.0.2.1', '2001:db8::1']",
        "drain = '1s'\nrequest_timeout = '10m'",
        "drain = '1m30s'",
        "log = 'off'",
        "log = 'warn,belay::ledger=debug'",
        "subject_issuer = []",
        "subject_issuer = [{ issuer = 'a', audience = 'b', jwks = '/k' }]",
        "[[subject_issuer]]\nissuer = 'https://a'\naudience = 'b c'\njwks = '/k'\nclaim = 'email'\nprefix = 'a: '",
    ];
    for line in right {
        Config::parse(&format!("{NEEDED}{line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn two_issuers_never_mean_one_subject() {
    let with = |tables: &[(&str, &str)]| {
        let table = |(issuer, prefix): &(&str, &str)| {
            format!("[[subject_issuer]]\nissuer = '{issuer}'\naudience = 'b'\njwks = '/k'\nprefix = '{prefix}'\n")
        };
        let tables: String = tables.iter().map(table).collect();
        Config::parse(&format!("{NEEDED}{tables}")).map(|config| config.subject_issuer.len())
    };
    assert_eq!(with(&[("a", "")]), Ok(1));
    assert_eq!(with(&[("a", "a:"), ("b", "b:"), ("c", "A:")]), Ok(3));
    let several: Vec<String> = (10..27).map(|at| at.to_string()).collect();
    let several: Vec<_> = several.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert_eq!(with(&several[..16]), Ok(16));
    let refused: [&[(&str, &str)]; 7] = [
        &[("a", ""), ("b", "")],
        &[("a", ""), ("b", "b:")],
        &[("a", "a:"), ("b", "")],
        &[("a", "x:"), ("b", "x:")],
        &[("a", "x:"), ("b", "y:"), ("c", "x:y:")],
        &[("a", "x:y:"), ("b", "x:")],
        &[("a", "x:"), ("a", "y:")],
    ];
    for tables in refused.into_iter().chain([&several[..]]) {
        let error = with(tables).expect_err(&format!("{tables:?}"));
        assert_eq!((error.code, error.field), (Code::Invalid, Some("subject_issuer")), "{tables:?}: {error}");
    }
}
