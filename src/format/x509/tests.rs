//! Each rule of a profile, broken once, is caught by name.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType, SerialNumber,
};

use super::build::{params, to_be_signed};
use super::*;
use crate::domain::agent::Kind;
use crate::domain::entropy::Entropy;
use crate::domain::error::Code;
use crate::domain::grant::Link;
use crate::domain::time::Span;
use crate::format::claims::GrantClaims;

const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

fn plan(profile: &'static Profile, spiffe_id: &str, names: &[&str]) -> Plan {
    let seed = [spiffe_id.len() as u8; 32];
    Plan {
        profile,
        spiffe_id: spiffe_id.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        spki: p256_spki(&[&[4], [seed, seed].as_flattened()].concat()),
        id: CertificateId::mint(NOW, &mut Entropy::from_seed(seed)),
        not_before: NOW.minus(profile.backdate()),
        not_after: NOW.plus(profile.max_lifetime()),
        under: None,
        crl: profile.crl_distribution_point.then(|| "https://broker.example/crl/k1/3.crl".to_owned()),
    }
}

/// The grant of a chain of so many links, each with the longest names there are.
fn under(links: u8, owner: &str) -> UnderGrant {
    let id = |seed| crate::domain::id::GrantId::mint(NOW, &mut Entropy::from_seed([seed; 32]));
    let link = |at| Link {
        grant: id(at),
        agent: "planner".parse().unwrap(),
        owner: owner.parse().unwrap(),
        subject: Some(owner.parse().unwrap()),
    };
    let claims = GrantClaims {
        grant: id(links - 1),
        task: crate::domain::id::TaskId::mint(NOW, &mut Entropy::from_seed([9; 32])),
        seq: u64::MAX,
        epoch: "e".repeat(16),
        chain: (0..links).map(link).collect(),
    };
    UnderGrant { aud: "a".repeat(256).parse().unwrap(), claims }
}

fn credential() -> Plan {
    let plan = plan(Profile::grant(), "spiffe://example.org/agent/planner", &[]);
    Plan { under: Some(under(2, "team")), ..plan }
}

fn authority_plan() -> Plan {
    plan(Profile::authority(), "spiffe://example.org", &[])
}

fn authority() -> Vec<u8> {
    assemble(&build(&authority_plan(), Issuer::Itself).unwrap(), &[])
}

fn agent() -> Plan {
    plan(Profile::of(Kind::Agent), "spiffe://example.org/agent/planner", &[])
}

fn server() -> Plan {
    plan(Profile::of(Kind::Server), "spiffe://example.org/server/n1", &["localhost", "127.0.0.1", "::1"])
}

fn error(plan: &Plan, issuer: Issuer<'_>, spoil: impl FnOnce(&mut CertificateParams)) -> String {
    let mut spoiled = params(plan).unwrap();
    spoil(&mut spoiled);
    let tbs = to_be_signed(spoiled, &plan.spki, issuer).unwrap();
    lint(&tbs, plan, issuer).expect_err("the lint is to catch it").message
}

fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

#[test]
fn what_a_profile_says_is_what_is_built() {
    let authority = authority();
    let operator = plan(Profile::of(Kind::Operator), "spiffe://example.org/operator/ada", &[]);
    for plan in [agent(), operator, server(), credential()] {
        let tbs = build(&plan, Issuer::Authority(&authority)).unwrap();
        lint(&tbs, &plan, Issuer::Authority(&authority)).unwrap();
    }
    lint(&build(&authority_plan(), Issuer::Itself).unwrap(), &authority_plan(), Issuer::Itself).unwrap();
}

#[test]
fn every_rule_of_an_agents_profile_is_held() {
    type Spoil = fn(&mut CertificateParams);
    let rules: &[(&str, Spoil)] = &[
        ("serial number is not its id", |p| p.serial_number = Some(SerialNumber::from(vec![1; 16]))),
        ("validity is not the one recorded", |p| p.not_before -= std::time::Duration::from_secs(1)),
        ("validity is not the one recorded", |p| p.not_after += std::time::Duration::from_secs(1)),
        ("subject is another", |p| p.distinguished_name.push(DnType::CommonName, "planner")),
        ("SAN is another", |p| {
            p.subject_alt_names[0] = SanType::URI("spiffe://example.org/agent/other".try_into().unwrap())
        }),
        ("SAN is another", |p| p.subject_alt_names.push(p.subject_alt_names[0].clone())),
        ("SAN is another", |p| p.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()))),
        ("no SAN", |p| p.subject_alt_names.clear()),
        ("no key usage", |p| p.key_usages.clear()),
        ("key usage is another", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ("no extended key usage", |p| p.extended_key_usages.clear()),
        ("extended key usage is another", |p| p.extended_key_usages.truncate(1)),
        ("extended key usage is another", |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any)),
        ("extended key usage is another", |p| {
            p.extended_key_usages.push(ExtendedKeyUsagePurpose::Other(vec![1, 3, 6]))
        }),
        ("basic constraints is another", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ("subject key identifier is another", |p| p.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20])),
        ("no authority key identifier", |p| p.use_authority_key_identifier_extension = false),
        ("unknown extension: 1.3.6.1.4.1", |p| {
            p.custom_extensions.push(extension(&[1, 3, 6, 1, 4, 1], false, &[5, 0]))
        }),
        ("no CRL distribution point", |p| p.crl_distribution_points.clear()),
        ("CRL distribution point is another", |p| p.crl_distribution_points[0].uris[0].push('x')),
        ("CRL distribution point is another", |p| p.crl_distribution_points[0].uris.push("https://x".to_owned())),
        ("CRL distribution point is another", |p| {
            p.crl_distribution_points.push(rcgen::CrlDistributionPoint { uris: vec!["https://x".to_owned()] });
        }),
    ];
    for (wanted, spoil) in rules {
        let message = error(&agent(), Issuer::Authority(&authority()), spoil);
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
}

#[test]
fn an_extension_of_the_wrong_criticality_or_twice_is_caught() {
    let authority = authority();
    let caught = |spoil: fn(&mut CertificateParams)| error(&agent(), Issuer::Authority(&authority), spoil);
    let usage = caught(|p| {
        p.key_usages.clear();
        p.custom_extensions.push(extension(&[2, 5, 29, 15], false, &[3, 2, 7, 0x80]));
    });
    assert!(usage.contains("key usage is not critical"), "{usage}");
    let constraints = caught(|p| {
        p.is_ca = IsCa::NoCa;
        p.custom_extensions.push(extension(&[2, 5, 29, 19], false, &[0x30, 0]));
    });
    assert!(constraints.contains("basic constraints is not critical"), "{constraints}");
    let names = caught(|p| {
        let id = b"spiffe://example.org/agent/planner";
        p.subject_alt_names.clear();
        let content = [&[0x30, id.len() as u8 + 2, 0x86, id.len() as u8], id.as_slice()].concat();
        p.custom_extensions.push(extension(&[2, 5, 29, 17], false, &content));
    });
    assert!(names.contains("SAN is not critical"), "{names}");
    let extended = caught(|p| {
        p.extended_key_usages.clear();
        let content = b"\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
        p.custom_extensions.push(extension(&[2, 5, 29, 37], true, content));
    });
    assert!(extended.contains("extended key usage is critical"), "{extended}");
    let twice = caught(|p| p.custom_extensions.push(extension(&[2, 5, 29, 15], true, &[3, 2, 7, 0x80])));
    assert!(twice.contains("an extension too many: key usage"), "{twice}");
    let bare = caught(|p| {
        p.is_ca = IsCa::NoCa;
        p.custom_extensions.push(extension(&[2, 5, 29, 19], true, &[0x30, 0]));
    });
    assert!(bare.contains("no subject key identifier"), "{bare}");
}

#[test]
fn every_rule_of_an_authoritys_profile_is_held() {
    type Spoil = fn(&mut CertificateParams);
    let rules: &[(&str, Spoil)] = &[
        ("subject is another", |p| p.distinguished_name.push(DnType::CommonName, "Another CA")),
        ("subject is another", |p| assert!(p.distinguished_name.remove(DnType::OrganizationName))),
        ("basic constraints is another", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ("basic constraints is another", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
        ("basic constraints is another", |p| p.is_ca = IsCa::ExplicitNoCa),
        ("key usage is another", |p| p.key_usages.truncate(1)),
        ("key usage is another", |p| p.key_usages.push(KeyUsagePurpose::DigitalSignature)),
        ("extended key usage is another", |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
        ("trust domain", |p| p.subject_alt_names[0] = SanType::URI("spiffe://example.com".try_into().unwrap())),
        ("no authority key identifier", |p| p.use_authority_key_identifier_extension = false),
    ];
    for (wanted, spoil) in rules {
        let message = error(&authority_plan(), Issuer::Itself, spoil);
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
}

#[test]
fn a_plan_beyond_its_profile_is_caught() {
    type Spoil = fn(&mut Plan);
    let rules: &[(&str, Spoil)] = &[
        ("validity is longer than allowed", |p| p.not_after = p.not_after.plus(Span::seconds(1))),
        ("validity is longer than allowed", |p| p.not_before = p.not_before.minus(Span::seconds(1))),
        ("ends before it begins", |p| p.not_after = p.not_before),
        ("path of its SPIFFE ID", |p| p.spiffe_id = "spiffe://example.org/operator/planner".to_owned()),
        ("path of its SPIFFE ID", |p| p.spiffe_id = "spiffe://example.org/agent/a/b".to_owned()),
        ("path of its SPIFFE ID", |p| p.spiffe_id = "spiffe://example.org/agent/".to_owned()),
        ("path of its SPIFFE ID", |p| p.spiffe_id = "spiffe://example.org".to_owned()),
        ("SPIFFE ID is not one", |p| p.spiffe_id = "https://example.org/agent/planner".to_owned()),
        ("SPIFFE ID is not one", |p| p.spiffe_id = "spiffe:///agent/planner".to_owned()),
        ("of another trust domain", |p| p.spiffe_id = "spiffe://example.com/agent/planner".to_owned()),
    ];
    let authority = authority();
    for (wanted, spoil) in rules {
        let mut plan = agent();
        spoil(&mut plan);
        let message = error(&plan, Issuer::Authority(&authority), |_| {});
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
    let mut late = agent();
    late.not_after = not_after(&authority).unwrap().plus(Span::seconds(1));
    late.not_before = late.not_after.minus(Span::hours(1));
    assert!(error(&late, Issuer::Authority(&authority), |_| {}).contains("ends after its authority's"));
}

#[test]
fn bytes_for_another_key_or_authority_are_caught() {
    let (plan, authority) = (agent(), authority());
    let lint_as = |tbs: &[u8]| lint(tbs, &plan, Issuer::Authority(&authority)).unwrap_err().message;
    let other = to_be_signed(params(&plan).unwrap(), &server().spki, Issuer::Authority(&authority)).unwrap();
    assert!(lint_as(&other).contains("for another key"));
    let own = to_be_signed(params(&plan).unwrap(), &plan.spki, Issuer::Itself).unwrap();
    assert!(lint_as(&own).contains("issuer is not the name of its authority"));
    let twin = Plan { spki: server().spki, ..authority_plan() };
    let twin = assemble(&build(&twin, Issuer::Itself).unwrap(), &[]);
    let below = build(&plan, Issuer::Authority(&twin)).unwrap();
    assert!(lint_as(&below).contains("authority key identifier is another"));
    let mut good = build(&plan, Issuer::Authority(&authority)).unwrap();
    let at = good.windows(12).position(|window| window.ends_with(b"\x3d\x04\x03\x02")).unwrap();
    good[at + 11] = 3; // ecdsa-with-SHA384
    assert!(lint_as(&good).contains("signature algorithm is another"));
    good[at + 11] = 2;
    good.push(0);
    assert!(lint_as(&good).contains("bytes follow it"));
}

#[test]
fn another_version_or_a_unique_identifier_is_caught() {
    let (plan, authority) = (agent(), authority());
    let lint_as = |tbs: &[u8]| lint(tbs, &plan, Issuer::Authority(&authority)).unwrap_err().message;
    let good = build(&plan, Issuer::Authority(&authority)).unwrap();
    let mut older = good.clone();
    let at = older.windows(5).position(|window| window == [0xa0, 3, 2, 1, 2]).unwrap();
    older[at + 4] = 1;
    assert!(lint_as(&older).contains("not version 3"));
    let head = at; // what precedes the version is the header of the whole
    let key = good.windows(plan.spki.len()).position(|window| window == plan.spki).unwrap() + plan.spki.len();
    for unique in [[0x81, 2, 0, 1], [0x82, 2, 0, 1]] {
        let body = [&good[head..key], &unique, &good[key..]].concat();
        assert!(lint_as(&super::build::tagged(0x30, &body)).contains("unique identifier"));
    }
}

#[test]
fn names_are_exactly_those_that_were_asked_for() {
    let authority = authority();
    let issuer = Issuer::Authority(&authority);
    let name = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let other = |at: usize, san: SanType| error(&server(), issuer, |p| p.subject_alt_names[at] = san);
    let wrong = [(1, name("example.org")), (2, SanType::IpAddress([127, 0, 0, 2].into())), (3, name("::1"))];
    for (at, san) in wrong {
        assert!(other(at, san).contains("SAN is another"), "{at}");
    }
    // Planned, but not what the profile allows.
    let mut spoiled = params(&agent()).unwrap();
    spoiled.subject_alt_names.push(name("localhost"));
    let named = Plan { names: vec!["localhost".to_owned()], ..agent() };
    let tbs = to_be_signed(spoiled, &named.spki, issuer).unwrap();
    assert!(lint(&tbs, &named, issuer).unwrap_err().message.contains("SAN is another"));
    let mut spoiled = params(&server()).unwrap();
    spoiled.subject_alt_names.truncate(1);
    let bare = Plan { names: Vec::new(), ..server() };
    let tbs = to_be_signed(spoiled, &bare.spki, issuer).unwrap();
    assert!(lint(&tbs, &bare, issuer).unwrap_err().message.contains("SAN is another"));
}

#[test]
fn a_key_of_a_kind_that_is_not_allowed_is_caught() {
    let authority = authority();
    let plan = Plan { spki: ed25519(), ..server() };
    let tbs = to_be_signed(params(&server()).unwrap(), &plan.spki, Issuer::Authority(&authority)).unwrap();
    assert!(lint(&tbs, &plan, Issuer::Authority(&authority)).unwrap_err().message.contains("kind that is not allowed"));
}

fn ed25519() -> Vec<u8> {
    [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice(), &[7; 32]].concat()
}

#[test]
fn a_key_or_name_that_the_profile_does_not_allow_is_the_callers_error() {
    let authority = authority();
    let refused = |plan: Plan| build(&plan, Issuer::Authority(&authority)).unwrap_err();
    let mut compressed = agent();
    compressed.spki = [&compressed.spki[..23], &[0x03, 0x22, 0x00, 0x02], &[7; 32]].concat();
    compressed.spki[1] -= 32;
    let keys =
        [Vec::new(), vec![0; 91], agent().spki[..90].to_vec(), [agent().spki, vec![0]].concat(), compressed.spki];
    for spki in keys {
        let error = refused(Plan { spki, ..agent() });
        assert_eq!((error.code, error.field), (Code::Invalid, Some("public_key")));
    }
    assert!(build(&Plan { spki: ed25519(), ..agent() }, Issuer::Authority(&authority)).is_ok());
    assert_eq!(refused(Plan { spki: ed25519(), ..server() }).field, Some("public_key"));
    for names in [vec![], vec!["*.example.org"], vec!["a b"], vec!["localhost", ""], vec!["300.1.1.1"]] {
        let names = names.into_iter().map(str::to_owned).collect();
        let error = refused(Plan { names, ..server() });
        assert_eq!((error.code, error.field), (Code::Invalid, Some("names")));
    }
    assert_eq!(refused(Plan { names: vec!["localhost".to_owned()], ..agent() }).field, Some("names"));
}

#[test]
fn the_serial_number_is_the_id_unchanged() {
    let plan = agent();
    let tbs = build(&plan, Issuer::Authority(&authority())).unwrap();
    let serial = [&[0x02, 16], plan.id.uuid().as_bytes().as_slice()].concat();
    assert!(tbs.windows(serial.len()).any(|window| window == serial));
}

#[test]
fn lengths_are_written_as_der_wants_them() {
    for (length, head) in
        [(0, vec![0x30, 0]), (127, vec![0x30, 127]), (128, vec![0x30, 0x81, 128]), (300, vec![0x30, 0x82, 1, 44])]
    {
        assert!(super::build::tagged(0x30, &vec![0; length]).starts_with(&head), "{length}");
    }
}

#[test]
fn every_rule_of_a_credentials_profile_is_held() {
    type Spoil = fn(&mut CertificateParams);
    let spoiled = |change: fn(&mut UnderGrant)| {
        let mut other = under(2, "team");
        change(&mut other);
        let mut params = params(&credential()).unwrap();
        params.custom_extensions = vec![extension(&super::extension::OID, false, &other.encode())];
        let tbs = to_be_signed(params, &credential().spki, Issuer::Authority(&authority())).unwrap();
        lint(&tbs, &credential(), Issuer::Authority(&authority())).expect_err("the lint is to catch it").message
    };
    for change in [
        (|u| u.claims.seq -= 1) as fn(&mut UnderGrant),
        |u| u.claims.epoch.push('x'),
        |u| u.aud = "other".parse().unwrap(),
        |u| u.claims.grant = u.claims.chain[0].grant,
        |u| u.claims.chain.truncate(1),
        |u| u.claims.chain.reverse(),
        |u| u.claims.chain[0].owner = "other".parse().unwrap(),
        |u| u.claims.chain[0].subject = None,
    ] {
        assert!(spoiled(change).contains("grant extension is another"));
    }
    let rules: &[(&str, Spoil)] = &[
        ("no grant extension", |p| p.custom_extensions.clear()),
        ("grant extension is critical", |p| p.custom_extensions[0].set_criticality(true)),
        ("extended key usage is another", |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
        ("an extension too many: grant extension", |p| p.custom_extensions.push(p.custom_extensions[0].clone())),
    ];
    for (wanted, spoil) in rules {
        let message = error(&credential(), Issuer::Authority(&authority()), spoil);
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
    let authority = authority();
    let caught = |plan: Plan| error(&plan, Issuer::Authority(&authority), |_| {});
    let id = "spiffe://example.org/agent/other".to_owned();
    assert!(caught(Plan { spiffe_id: id, ..credential() }).contains("grant extension is another"), "another's grant");
    assert!(caught(Plan { under: None, ..credential() }).contains("no grant extension"));
    let identity = Plan { under: credential().under, ..agent() };
    assert!(caught(identity).contains("an extension too many: grant extension"));
}

#[test]
fn a_grant_extension_is_read_only_if_it_holds_together() {
    let good = under(2, "team");
    assert_eq!(UnderGrant::decode(&good.encode()), Some(good.clone()));
    let text = String::from_utf8(good.encode()[4..].to_vec()).unwrap();
    let read = |text: &str| UnderGrant::decode(&super::build::tagged(0x0c, text.as_bytes()));
    assert_eq!(read(&text), Some(good.clone()));
    assert_eq!(read(&text.replacen('{', r#"{"later":1,"#, 1)), Some(good.clone()), "an unknown member is tolerated");
    let doubled = format!("{{\"aud\":\"x\",{}", &text[1..]);
    let (number, null) = (format!("\"{}\"", u64::MAX), r#""owner":"team","subject":null"#);
    for wrong in [
        "",
        "{}",
        "[]",
        &text[1..],
        &doubled,
        &text.replacen(&number, "7", 1),
        &text.replacen(&number, "\"07\"", 1),
        &text.replacen(r#""owner":"team","subject":"team""#, null, 1),
        &text.replacen(r#""epoch":"eeeeeeeeeeeeeeee""#, r#""epoch":"""#, 1),
        &serde_json::to_string(&UnderGrant {
            claims: GrantClaims { chain: vec![], ..good.claims.clone() },
            ..good.clone()
        })
        .unwrap(),
        &serde_json::to_string(&under(17, "team")).unwrap(),
    ] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
    let value = good.encode();
    let another_type = [&[0x16], &value[1..]].concat();
    for wrong in [&value[..value.len() - 1], &[&value[..], &[0]].concat(), &another_type, text.as_bytes(), &[]] {
        assert_eq!(UnderGrant::decode(wrong), None);
    }
}

#[test]
fn the_longest_chain_of_the_longest_names_fits_a_certificate() {
    let heavy = Plan { under: Some(under(16, &"\u{10348}".repeat(256))), ..credential() };
    let authority = authority();
    let tbs = build(&heavy, Issuer::Authority(&authority)).unwrap();
    lint(&tbs, &heavy, Issuer::Authority(&authority)).unwrap();
    assert!(tbs.len() > 32_000 && tbs.len() + 100 <= crate::domain::MAX_CERTIFICATE, "{}", tbs.len());
}
