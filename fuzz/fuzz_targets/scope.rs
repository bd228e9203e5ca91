//! Scopes, one on a line: what covers what, and what that means for a call.
#![no_main]

use belay::domain::scope::{Args, Call, Scope, Scopes};
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut scopes: Vec<Scope> = Vec::new();
    for line in text.lines().take(8) {
        match line.parse::<Scope>() {
            Ok(scope) => {
                let form = scope.to_string();
                assert!(form == line || line.contains('{'), "{form} is not {line}");
                assert!(form.bytes().all(|byte| byte.is_ascii_graphic()), "{form}");
                assert_eq!(form.parse::<Scope>().as_ref(), Ok(&scope), "{form}");
                assert!(scope.covers(&scope), "{scope} does not cover itself");
                scopes.push(scope);
            }
            Err(error) => is_fit_to_print(&error),
        }
    }
    // Every scope as calls: a wildcard becomes a name, and the arguments are those of a line, or none.
    let args: Vec<Args> = text.lines().filter_map(|line| Args::parse(line).ok()).chain([Args::default()]).collect();
    for one in &args {
        assert_eq!(Args::parse(&one.canonical()).as_ref(), Ok(one));
    }
    let calls: Vec<Call> = (scopes.iter())
        .filter_map(|scope| {
            let action = scope.action().to_string().replace('*', "w");
            let resource = scope.resource().to_string().replace("**", "x/y").replace('*', "z");
            Call::parse(scope.tool(), &action, &resource).ok()
        })
        .flat_map(|call| args.iter().map(move |args| call.clone().with_args(args.clone())))
        .collect();
    for (a, b) in scopes.iter().flat_map(|a| scopes.iter().map(move |b| (a, b))) {
        let meet = a.meet(b);
        for call in &calls {
            let both = a.allows(call) && b.allows(call);
            assert!(!a.covers(b) || !b.allows(call) || a.allows(call), "{a} covers {b}, not {call}");
            assert!(!both || a.intersects(b), "{a} {b} {call}");
            assert!(meet.as_ref().is_none_or(|meet| meet.allows(call) == both), "{a} {b} {call}");
        }
        assert!(meet.is_none_or(|meet| a.covers(&meet) && b.covers(&meet)), "{a} {b}");
        if let Ok(child) = b.inherit(a) {
            assert!(a.covers(&child), "{a} {child}");
        }
        for c in scopes.iter().filter(|c| a.covers(b) && b.covers(c)) {
            assert!(a.covers(c), "{a} covers {b} covers {c}");
        }
    }
    if let Ok(set) = Scopes::try_from(scopes) {
        assert_eq!(set.first_uncovered(&set), None);
    }
});
