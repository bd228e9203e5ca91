//! Who asks, and whom: the global flags, their defaults, and the channel that they lead to.
//!
//! Precedence is flag, environment, default. An empty variable counts as unset.

use std::path::PathBuf;

use clap::Args;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::field::Field;
use super::output::{Format, Printer};
use crate::client::{Identity, Refusal, client_config, connect};
use crate::domain::error::{Code, Error};

const DEFAULT_ADDR: &str = "https://127.0.0.1:7440";

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The broker [default: https://127.0.0.1:7440]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "BELAY_ADDR",
        value_name = "URL",
        hide_env_values = true
    )]
    pub addr: Option<String>,
    /// Who asks: a directory with cert.pem, key.pem and ca.pem [default: the operator under BELAY_HOME]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "BELAY_IDENTITY",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub identity: Option<PathBuf>,
    /// How answers are printed
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        env = "BELAY_OUTPUT",
        value_name = "FORMAT",
        default_value = "table",
        hide_env_values = true
    )]
    pub output: Format,
    /// Print one value of the answer's JSON document, bare: grant.id, events.0.seq
    #[arg(long, global = true, help_heading = "Global options", value_name = "A.B")]
    pub field: Option<Field>,
}

impl Global {
    /// How to print.
    pub fn printer(&self) -> Printer {
        Printer::new(self.output, self.field.clone())
    }

    /// The address that was asked for, as a URL; none if it was left to the default.
    pub fn addr(&self) -> Option<String> {
        self.addr.as_deref().filter(|addr| !addr.is_empty()).map(url)
    }

    /// The address of the broker, as a URL.
    pub fn addr_or_default(&self) -> String {
        self.addr().unwrap_or_else(|| DEFAULT_ADDR.to_owned())
    }

    /// Where the identity of the caller is.
    ///
    /// # Errors
    /// None is named and there is no home to look in.
    pub fn identity(&self) -> Result<PathBuf, Refusal> {
        match self.identity.as_ref().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => Ok(dir.clone()),
            None => Ok(home()?.join("operator")),
        }
    }

    /// A channel to the broker, as the caller.
    ///
    /// # Errors
    /// There is no identity, or the broker cannot be reached or is not the one that the identity trusts.
    pub async fn channel(&self) -> Result<Channel, Refusal> {
        let tls = client_config(&Identity::load(&self.identity()?)?)?;
        connect(&self.addr_or_default(), tls).await
    }
}

/// The address as a URL: `host:port` alone means HTTPS.
pub fn url(addr: &str) -> String {
    if addr.contains("://") { addr.to_owned() } else { format!("https://{addr}") }
}

/// The broker's answer, or why it refused.
pub fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, Refusal> {
    Ok(result?.into_inner())
}

/// `BELAY_HOME`, or `belay` in the user's configuration directory.
///
/// # Errors
/// Neither `BELAY_HOME`, `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn home() -> Result<PathBuf, Refusal> {
    home_in(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn home_in(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Refusal> {
    let config = || variable("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    variable("BELAY_HOME")
        .or_else(|| config().map(|dir| dir.join("belay")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".config/belay")))
        .ok_or_else(|| Error::new(Code::Invalid, "no_home", "there is no home directory; set BELAY_HOME").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(set: &[(&str, &str)]) -> Option<PathBuf> {
        home_in(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))).ok()
    }

    #[test]
    fn home_is_the_nearest_that_is_named() {
        let all = [("BELAY_HOME", "/b"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(home_with(&all), Some("/b".into()));
        assert_eq!(home_with(&all[1..]), Some("/x/belay".into()));
        assert_eq!(home_with(&all[2..]), Some("/h/.config/belay".into()));
        assert_eq!(home_with(&[]), None);
    }

    #[test]
    fn an_address_without_a_scheme_is_https() {
        assert_eq!(url("127.0.0.1:1"), "https://127.0.0.1:1");
        assert_eq!(url("http://127.0.0.1:1"), "http://127.0.0.1:1");
    }
}
