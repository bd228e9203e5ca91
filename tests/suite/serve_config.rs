//! A production broker that must not start: one line that names the key, before it listens anywhere. `belay config
//! check` finds the same without starting.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use rcgen::date_time_ymd;
use serde_json::Value;

use crate::support::calls::is_clear;
use crate::support::process::{Broker, belay, ran, ran_in_time};
use crate::support::production::{Page, Place, mode, write_private};
use crate::support::provider::Provider;

/// The error with which a configuration is refused, by `serve` and by `config check` alike.
fn refused(place: &Place, file: &Path) -> Value {
    let serve = {
        let mut command = belay(place.home());
        command.args(["-o", "json", "serve", "--config"]).arg(file);
        ran_in_time(command)
    };
    assert_eq!((serve.code, serve.stdout.as_str()), (2, ""), "{serve:?}");
    assert_eq!(serve.stderr.lines().count(), 1, "{serve:?}");
    let check = {
        let mut command = belay(place.home());
        command.args(["-o", "json", "config", "check"]).arg(file);
        ran(command)
    };
    assert_eq!((check.code, check.stderr.as_str()), (2, serve.stderr.as_str()));
    let error = serve.err(2);
    let message = error["message"].as_str().unwrap();
    assert!(is_clear(message) && !message.contains("hunter2"), "{message}");
    error
}

#[test]
fn a_configuration_file_that_is_none_is_refused() {
    let place = Place::initialised("");
    let at = |name: &str| place.at(name);
    std::fs::create_dir(at("directory")).unwrap();
    std::fs::write(at("empty"), " \n").unwrap();
    std::fs::write(at("binary"), b"trust_domain = 'x'\n\xff\xfe").unwrap();
    std::fs::write(at("huge"), vec![b'#'; (1 << 20) + 1]).unwrap();
    std::fs::write(at("cut"), &place.needed()[..20]).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    let cases = [
        ("missing", "no such file"),
        ("dangling", "no such file"),
        ("directory", "not a regular file"),
        ("pipe", "not a regular file"),
        ("empty", "it is empty"),
        ("binary", "not UTF-8"),
        ("huge", "larger than"),
        ("cut", "line 1"),
    ];
    for (name, why) in cases {
        let error = refused(&place, &at(name));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(why) && message.contains(at(name).to_str().unwrap()), "{name}: {message}");
        assert_eq!(error["detail"]["reason"], "configuration");
    }
    // What a link leads to is a configuration like any other.
    symlink(at("belay.toml"), at("link")).unwrap();
    let mut command = belay(place.home());
    command.args(["-o", "json", "config", "check"]).arg(at("link"));
    let checked = ran(command).ok();
    assert_eq!((&checked["ok"], &checked["data"]["state"]), (&true.into(), &"initialised".into()), "{checked}");
}

#[test]
fn a_key_that_is_wrong_is_named_and_its_value_is_not_shown() {
    let place = Place::initialised("");
    let cases = [
        ("issuer = 'hunter2'", "issuer"),
        ("names = ['hunter2 hunter2']", "names"),
        ("drain = 'hunter2'", "drain"),
        ("log = 'hunter2'", "log"),
        ("http_certificate = '/hunter2'", "http_key"),
        ("http_key = 'hunter2'", "http_key"),
        ("passwort = 'hunter2'", "passwort"),
        ("snapshot_every = 'hunter2'", "snapshot_every"),
        ("log = 'info'\nlog = 'hunter2'", "log"),
    ];
    for (line, key) in cases {
        place.configure(line);
        let error = refused(&place, &place.at("belay.toml"));
        assert!(error["message"].as_str().unwrap().contains(&format!("`{key}`")), "{line}: {error}");
    }
}

#[test]
fn a_certificate_that_tls_could_not_use_is_refused() {
    let place = Place::initialised("");
    let refuses = |page: &Page, key: &str, why: &str| {
        place.configure(&page.lines());
        let error = refused(&place, &place.at("belay.toml"));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("`{key}`")) && message.contains(why), "{message}");
        assert_eq!(error["detail"]["field"], key);
    };
    let (one, other) = (place.certificate("one"), place.certificate("other"));
    let page =
        |certificate: &str, key: &str| Page { certificate: place.at(certificate), key: place.at(key), der: vec![] };
    let (leaf, private) =
        (std::fs::read_to_string(&one.certificate).unwrap(), std::fs::read_to_string(&one.key).unwrap());

    refuses(&page("one.pem", "other.key"), "http_key", "not the key of the first certificate");
    refuses(&page("none.pem", "one.key"), "http_certificate", "no such file");
    refuses(&page("one.pem", "none.key"), "http_key", "no such file");
    refuses(&page("one.key", "one.key"), "http_certificate", "no certificate");
    refuses(&page("one.pem", "one.pem"), "http_key", "lets others at it");
    refuses(&page("data", "one.key"), "http_certificate", "not a regular file");

    let reversed = std::fs::read_to_string(&other.certificate).unwrap() + &leaf;
    std::fs::write(place.at("reversed.pem"), reversed).unwrap();
    refuses(&page("reversed.pem", "one.key"), "http_key", "not the key of the first certificate");
    std::fs::write(place.at("cut.pem"), &leaf[..leaf.len() / 2]).unwrap();
    refuses(&page("cut.pem", "one.key"), "http_certificate", "cut off");
    std::fs::write(place.at("garbled.pem"), "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n")
        .unwrap();
    refuses(&page("garbled.pem", "one.key"), "http_certificate", "damaged");
    write_private(&place.at("cut.key"), &private[..private.len() / 2]);
    refuses(&page("one.pem", "cut.key"), "http_key", "cut off");
    write_private(&place.at("text.key"), "hunter2");
    refuses(&page("one.pem", "text.key"), "http_key", "no private key");
    let encrypted = private.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    write_private(&place.at("encrypted.key"), &encrypted);
    refuses(&page("one.pem", "encrypted.key"), "http_key", "encrypted");
    for loose in [0o644, 0o604, 0o660, 0o602, 0o666] {
        mode(&other.key, loose);
        refuses(&other, "http_key", "lets others at it");
    }
    let old = place.certificate_with("old", |params| params.not_after = date_time_ymd(2021, 1, 1));
    refuses(&old, "http_certificate", "it ended at 2021-01-01T00:00:00.000Z");
    let early = place.certificate_with("early", |params| params.not_before = date_time_ymd(3000, 1, 1));
    refuses(&early, "http_certificate", "begins only at");
    for tight in [0o600, 0o400, 0o640] {
        mode(&one.key, tight);
        place.configure(&one.lines());
        drop(Broker::start_production(place.home()));
    }
}

#[test]
fn a_data_directory_that_others_could_use_is_refused() {
    let place = Place::initialised("");
    let (file, data, key) = (place.at("belay.toml"), place.at("data"), place.at("data/master.key"));
    let reason = || refused(&place, &file)["detail"]["reason"].as_str().unwrap().to_owned();
    for loose in [0o755, 0o750, 0o770, 0o701] {
        mode(&data, loose);
        assert_eq!(reason(), "data_mode");
    }
    mode(&data, 0o700);
    for loose in [0o640, 0o604, 0o666] {
        mode(&key, loose);
        assert_eq!(reason(), "data_mode");
    }
    mode(&key, 0o600);
    std::fs::rename(&key, place.at("key")).unwrap();
    symlink(place.at("key"), &key).unwrap();
    assert_eq!(reason(), "data");
    std::fs::remove_file(&key).unwrap();
    std::fs::rename(place.at("key"), &key).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&data, Some(65534), None).unwrap();
        assert_eq!(reason(), "data_owner");
        std::os::unix::fs::chown(&data, Some(0), None).unwrap();
    }
    // A service manager may make it a link to the place itself.
    std::fs::rename(&data, place.at("place")).unwrap();
    symlink(place.at("place"), &data).unwrap();
    drop(Broker::start_production(place.home()));
    std::fs::remove_file(&data).unwrap();
    std::fs::write(&data, "").unwrap();
    assert_eq!(reason(), "data");
}

#[test]
fn nothing_is_listened_to_before_the_configuration_is_found_good() {
    let place = Place::initialised("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    // A port that is taken would be found at the moment of listening, with another reason.
    let taking = |lines: &str| {
        let text = place.needed().replace("grpc = '127.0.0.1:0'", &format!("grpc = '{addr}'"));
        std::fs::write(place.at("belay.toml"), text + lines).unwrap();
    };
    taking("http_certificate = '/none'\nhttp_key = '/none'");
    assert_eq!(refused(&place, &place.at("belay.toml"))["detail"]["reason"], "http_certificate");
    taking("");
    let error = place.run(&["serve"]).err(1);
    assert_eq!((&error["detail"]["reason"], &error["detail"]["field"]), (&"address_in_use".into(), &"grpc".into()));
    assert!(error["message"].as_str().unwrap().contains(&addr), "{error}");
    // Whoever checks a configuration may have a broker running with it.
    let mut command = belay(place.home());
    command.args(["-o", "json", "config", "check"]).arg(place.at("belay.toml"));
    let checked = ran(command).ok();
    assert_eq!((&checked["grpc"]["free"], &checked["http"]["free"]), (&false.into(), &true.into()), "{checked}");
    let foreign = place.needed().replace("http = '127.0.0.1:0'", "http = '192.0.2.1:0'");
    std::fs::write(place.at("belay.toml"), foreign).unwrap();
    let error = refused(&place, &place.at("belay.toml"));
    assert_eq!((&error["detail"]["reason"], &error["detail"]["field"]), (&"address_unusable".into(), &"http".into()));
}

#[test]
fn a_broker_is_for_trying_out_or_for_use_and_never_both() {
    let place = Place::initialised("");
    let file = place.at("belay.toml");
    let file = file.to_str().unwrap();
    let mixed: &[&[&str]] = &[
        &["serve"],
        &["serve", "--dev", "--config", file],
        &["serve", "--config", file, "--data", "/tmp"],
        &["serve", "--config", file, "--grpc", "127.0.0.1:0"],
        &["serve", "--config", file, "--http", "127.0.0.1:0"],
        &["serve", "--config", file, "--snapshot-every", "1"],
        &["serve", "--config"],
        &["config", "check"],
        &["init"],
    ];
    for arguments in mixed {
        let mut command = belay(place.home());
        command.args(*arguments);
        let ended = ran_in_time(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn the_printed_sample_is_the_shipped_one() {
    let place = Place::new("");
    let mut command = belay(place.home());
    command.args(["config", "sample"]);
    let printed = ran(command);
    assert_eq!((printed.code, printed.stdout.as_str()), (0, include_str!("../../deploy/belay.toml")));
}

#[test]
fn a_broker_leaves_no_core_dump_with_its_keys() {
    let place = Place::initialised("");
    for broker in [Broker::start_production(place.home()), Broker::start()] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", broker.pid())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
        // What is not dumpable belongs to root there, whoever runs it.
        use std::os::unix::fs::MetadataExt as _;
        let memory = std::fs::metadata(format!("/proc/{}/mem", broker.pid())).unwrap();
        assert_eq!(memory.uid(), 0);
    }
}

#[test]
fn keys_of_an_identity_provider_that_cannot_be_believed_stop_the_start() {
    let place = Place::initialised("");
    let provider = Provider::new("k1");
    let set = provider.jwks().to_string();
    let issuer = place.at("issuer.jwks");
    place.configure(&provider.lines(&issuer));
    let private = set.replacen("\"kid\"", "\"d\":\"hunter2\",\"kid\"", 1);
    let cases: [(&str, Option<&str>, u32); 7] = [
        ("no such file", None, 0o644),
        ("not JSON", Some(""), 0o644),
        ("not JSON", Some(&set[..set.len() / 2]), 0o644),
        ("no JWK Set", Some("{}"), 0o644),
        ("no key to use", Some("{\"keys\":[]}"), 0o644),
        ("a private or secret key", Some(&private), 0o644),
        ("lets everybody write it", Some(&set), 0o666),
    ];
    for (why, text, bits) in cases {
        if let Some(text) = text {
            std::fs::write(&issuer, text).unwrap();
            mode(&issuer, bits);
        }
        let error = refused(&place, &place.at("belay.toml"));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(why) && message.contains("issuer.jwks"), "{why}: {message}");
        assert_eq!(error["detail"]["field"], "subject_issuer", "{error}");
    }
    mode(&issuer, 0o644);
    let mut command = belay(place.home());
    command.args(["-o", "json", "config", "check"]).arg(place.at("belay.toml"));
    assert_eq!(ran(command).ok()["ok"], true);
}
