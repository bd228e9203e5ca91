//! Certificates under a grant as others read them: OpenSSL, a TLS library that is not ours, and Python.

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
async fn python_reads_which_grant_a_certificate_hangs_on() {
    let found = there("python3", &["-c", "import cryptography"]);
    if !needs("python_reads_which_grant_a_certificate_hangs_on", "python3 with cryptography", found) {
        return;
    }
    let held = held().await;
    let script = r#"
import json
from cryptography import x509
certificate = x509.load_pem_x509_certificate(open("cert.pem", "rb").read())
extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1.1"))
assert not extension.critical
value = extension.value.value
assert value[0] == 0x0C, "a UTF8String"
length, at = (value[1], 2) if value[1] < 0x80 else (int.from_bytes(value[2 : 2 + (value[1] & 0x7F)], "big"), 2 + (value[1] & 0x7F))
assert at + length == len(value)
print(json.dumps(json.loads(value[at:].decode())))
"#;
    let (good, said) = run("python3", &["-c", script], &held.certificate);
    assert!(good, "{said}");
    let read: Value = serde_json::from_str(said.trim()).unwrap();
    let shown = held.broker.run(&["grant", "show", &held.grant]).ok();
    assert_eq!((&read["grant"], &read["task"]), (&shown["grant"]["id"], &shown["grant"]["task"]));
    assert_eq!(read["aud"], shown["grant"]["audience"]);
    let link = serde_json::json!([{ "grant": held.grant, "agent": "ana", "owner": "team" }]);
    assert_eq!(read["chain"], link);
    // As old as its grant, whenever it was made.
    let issued = held.broker.run(&["audit", "list", "--kind", "grant_issued"]).ok();
    assert_eq!(read["seq"], issued["events"][0]["seq"].to_string().as_str());
    assert_eq!(read.as_object().unwrap().keys().collect::<Vec<_>>(), ["aud", "chain", "epoch", "grant", "seq", "task"]);
}
