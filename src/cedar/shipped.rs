//! The schema and the policies that Belay brings along: `deploy/policies`.

use std::sync::LazyLock;

use cedar_policy::Schema;

use crate::domain::error::Error;

use super::Set;

/// What policies may speak of, in Cedar's schema language.
pub const SCHEMA: &str = include_str!("../../deploy/policies/schema.cedarschema");

macro_rules! files {
    ($directory:literal: $($name:literal)*) => {
        [$(($name, include_str!(concat!("../../deploy/policies/", $directory, $name)))),*]
    };
}

/// A new broker's.
const PRODUCTION: [(&str, &str); 5] =
    files!("": "agents.cedar" "approvals.cedar" "operators.cedar" "radius.cedar" "tools.cedar");
/// Those of `belay serve --dev`. What operators may do is the same everywhere.
const DEV: [(&str, &str); 2] = {
    let [agents] = files!("dev/": "agents.cedar");
    let [operators] = files!("": "operators.cedar");
    [agents, operators]
};

impl Set {
    /// The set that a new broker starts with.
    ///
    /// # Errors
    /// None of the files as they are shipped; a test loads them.
    pub fn production() -> Result<Self, Error> {
        load(&PRODUCTION)
    }

    /// The set of a development broker: any agent may ask for anything.
    ///
    /// # Errors
    /// None of the files as they are shipped; a test loads them.
    pub fn dev() -> Result<Self, Error> {
        load(&DEV)
    }
}

fn load(files: &[(&str, &str)]) -> Result<Set, Error> {
    let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Set::load(&files)
}

/// The parsed schema.
pub fn schema() -> Schema {
    static PARSED: LazyLock<Schema> = LazyLock::new(|| {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the shipped schema is one: a test reads it");
        schema
    });
    PARSED.clone()
}
