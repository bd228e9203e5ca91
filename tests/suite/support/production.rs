//! A production broker's place: its configuration, its data directory, certificates for its pages.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::process::{Ran, belay, ran_in_time};

/// A home directory with a configuration in it.
pub struct Place {
    directory: TempDir,
}

impl Place {
    /// With a configuration of what is needed and these lines.
    pub fn new(lines: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.configure(lines);
        place
    }

    /// The same, after `belay init`.
    pub fn initialised(lines: &str) -> Self {
        let place = Self::new(lines);
        place.init(&[]).ok();
        place
    }

    pub fn home(&self) -> &Path {
        self.directory.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    /// What is needed, on free ports.
    pub fn needed(&self) -> String {
        let data = self.at("data");
        format!(
            "trust_domain = 'test.example'\ndata = '{}'\ngrpc = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n",
            data.display()
        )
    }

    /// Writes what is needed and these lines.
    pub fn configure(&self, lines: &str) {
        std::fs::write(self.at("belay.toml"), self.needed() + lines).unwrap();
    }

    /// Runs a command line with `--config` and this configuration at its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = belay(self.home());
        command.args(["-o", "json"]).args(arguments).arg("--config").arg(self.at("belay.toml"));
        ran_in_time(command)
    }

    /// Runs `belay init`.
    pub fn init(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["init"], arguments].concat())
    }

    /// Writes a certificate for this machine and its key; whatever was there is replaced.
    pub fn certificate(&self, name: &str) -> Page {
        self.certificate_with(name, |_| {})
    }

    /// The same, with something about it changed.
    pub fn certificate_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Page {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        let page = Page {
            certificate: self.at(&format!("{name}.pem")),
            key: self.at(&format!("{name}.key")),
            der: certificate.der().to_vec(),
        };
        std::fs::write(&page.certificate, certificate.pem()).unwrap();
        write_private(&page.key, &key.serialize_pem());
        page
    }
}

/// A certificate for the pages, on disk.
pub struct Page {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub der: Vec<u8>,
}

impl Page {
    /// As a configuration names it.
    pub fn lines(&self) -> String {
        format!("http_certificate = '{}'\nhttp_key = '{}'\n", self.certificate.display(), self.key.display())
    }
}

/// A file for its owner alone.
pub fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    mode(path, 0o600);
}

/// Changes a mode.
pub fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
