//! Certificates under a grant as OpenSSL reads and presents them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::calls::Acting;
use crate::support::needs;
use crate::support::process::Broker;

struct Held {
    broker: Broker,
    certificate: PathBuf,
    grant: String,
}

async fn held() -> Held {
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let (grant, ..) = ana.granted().await;
    let certificate = broker.home.join("certificate");
    ana.certified(&grant, &certificate).await;
    Held { broker, certificate, grant }
}

fn there(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Runs a program with nothing on its stdin: whether it succeeded, and all that it said.
fn run(program: &str, arguments: &[&str], directory: &Path) -> (bool, String) {
    let ran = Command::new(program).args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap();
    let said = [&ran.stdout[..], &ran.stderr].concat();
    (ran.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn openssl_takes_a_certificate_for_a_client_and_shows_its_extension() {
    if !needs(
        "openssl_takes_a_certificate_for_a_client_and_shows_its_extension",
        "openssl",
        there("openssl", &["version"]),
    ) {
        return;
    }
    let held = held().await;
    let openssl = |arguments: &str| run("openssl", &arguments.split(' ').collect::<Vec<_>>(), &held.certificate);
    let (good, said) = openssl("verify -x509_strict -purpose sslclient -CAfile ca.pem cert.pem");
    assert!(good, "{said}");
    let (good, said) = openssl("verify -x509_strict -purpose sslserver -CAfile ca.pem cert.pem");
    assert!(!good, "it is no server's: {said}");
    let (_, text) = openssl("x509 -in cert.pem -noout -text");
    for part in ["1.3.6.1.4.1.32473.1.1", "URI:spiffe://belay.dev/agent/ana", "TLS Web Client Authentication"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("1.3.6.1.4.1.32473.1.1: critical") && text.contains("Alternative Name: critical"), "{text}");
    let (_, dump) = openssl("asn1parse -in cert.pem");
    assert!(dump.contains("1.3.6.1.4.1.32473.1.1"), "{dump}");
}

#[tokio::test]
async fn openssl_presents_a_certificate_to_the_broker() {
    if !needs("openssl_presents_a_certificate_to_the_broker", "openssl", there("openssl", &["version"])) {
        return;
    }
    let held = held().await;
    let address = held.broker.addr.trim_start_matches("https://").to_owned();
    let arguments = format!(
        "s_client -connect {address} -servername localhost -alpn h2 -cert cert.pem -key key.pem -CAfile ca.pem \
         -verify_return_error -brief"
    );
    let (good, said) = run("openssl", &arguments.split_whitespace().collect::<Vec<_>>(), &held.certificate);
    assert!(good && said.contains("Verification: OK") && said.contains("TLSv1.3"), "{said}");
    assert!(!said.contains("alert"), "{said}");
}

#[tokio::test]
async fn openssl_reads_which_grant_a_certificate_hangs_on() {
    if !needs("openssl_reads_which_grant_a_certificate_hangs_on", "openssl", there("openssl", &["version"])) {
        return;
    }
    let held = held().await;
    let (_, dump) = run("openssl", &["asn1parse", "-in", "cert.pem"], &held.certificate);
    let mut lines = dump.lines().skip_while(|line| !line.ends_with(":1.3.6.1.4.1.32473.1.1")).skip(1);
    // An extension that is not critical says nothing of it: what follows its name is its value.
    let (_, hex) =
        lines.next().unwrap().split_once("OCTET STRING      [HEX DUMP]:").unwrap_or_else(|| panic!("{dump}"));
    let value: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    // A UTF8String of 128 to 255 bytes.
    let [0x0c, 0x81, length, text @ ..] = &value[..] else { panic!("not a UTF8String: {hex}") };
    assert_eq!(usize::from(*length), text.len());
    let read: Value = serde_json::from_slice(text).unwrap();
    let shown = held.broker.run(&["grant", "show", &held.grant]).ok();
    assert_eq!((&read["grant"], &read["task"]), (&shown["grant"]["id"], &shown["grant"]["task"]));
    assert_eq!(read["aud"], shown["grant"]["audience"]);
    assert_eq!(read["chain"], serde_json::json!([{ "grant": held.grant, "agent": "ana", "owner": "team" }]));
    // As old as its grant, whenever it was made.
    let issued = held.broker.run(&["audit", "list", "--kind", "grant_issued"]).ok();
    assert_eq!(read["seq"], issued["events"][0]["seq"].to_string().as_str());
    let mut members: Vec<&String> = read.as_object().unwrap().keys().collect();
    members.sort_unstable();
    assert_eq!(members, ["aud", "chain", "epoch", "grant", "seq", "task"]);
}
