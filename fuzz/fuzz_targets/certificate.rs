//! Client certificates, once TLS has let them in: whom one names, if anybody.
#![no_main]

use std::sync::LazyLock;

use belay::attest::mtls::present;
use belay::domain::agent::Kind;
use belay::domain::digest::Digest;
use belay::domain::name::TrustDomain;
use belay::format::spiffe::SpiffeId;
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

static OURS: LazyLock<TrustDomain> = LazyLock::new(|| "td.example".parse().expect("a trust domain"));

fuzz_target!(|der: &[u8]| {
    match present(der, &OURS) {
        Ok((kind, presenter)) => {
            assert!(matches!(kind, Kind::Agent | Kind::Operator));
            assert_eq!(presenter.thumbprint, Digest::of(der));
            let id = SpiffeId::of(&OURS, kind, &presenter.name).to_string();
            let holds = |part: &[u8]| der.windows(part.len()).any(|window| window == part);
            assert!(holds(id.as_bytes()) && holds(presenter.certificate.uuid().as_bytes()), "{id}");
            assert!(present(&[der, &[0]].concat(), &OURS).is_err() && present(&der[..der.len() - 1], &OURS).is_err());
            assert!(present(der, &"other.example".parse().expect("a trust domain")).is_err());
        }
        Err(error) => {
            assert_eq!(error.reason, "certificate_refused");
            is_fit_to_print(&error);
        }
    }
});
