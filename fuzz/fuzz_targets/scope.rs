//! Scopes, one on a line: what covers what, and what that means for a call.
#![no_main]

use belay::domain::scope::{Call, Scope, Scopes};
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut scopes: Vec<Scope> = Vec::new();
    for line in text.lines().take(8) {
        match line.parse::<Scope>() {
            Ok(scope) => {
                assert_eq!(scope.to_string(), line);
                assert!(scope.covers(&scope), "{scope} does not cover itself");
                scopes.push(scope);
            }
            Err(error) => is_fit_to_print(&error),
        }
    }
    // Every scope as a call: a wildcard becomes a name, so that the call lies within the scope it is made from.
    let call = |scope: &Scope| {
        let action = scope.action().replace('*', "w");
        Call::parse(scope.tool(), &action, &scope.resource().replace("**", "x/y").replace('*', "z")).ok()
    };
    for (a, b) in scopes.iter().flat_map(|a| scopes.iter().map(move |b| (a, b))) {
        if a.covers(b) {
            assert!(call(b).is_none_or(|call| b.allows(&call) && a.allows(&call)), "{a} covers {b}");
            for c in scopes.iter().filter(|c| b.covers(c)) {
                assert!(a.covers(c), "{a} covers {b} covers {c}");
            }
        }
    }
    if let Ok(set) = Scopes::try_from(scopes) {
        assert_eq!(set.first_uncovered(&set), None);
    }
});
