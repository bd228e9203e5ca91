//! Places where a debug build can be told to panic, to see that only the one request ends.
//!
//! `BELAY_PANIC=PLACE:N` panics at the N-th time it comes by. A release build has none of it.

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the access table is asked, with a certificate at hand.
    Access,
    /// In a gRPC handler.
    Handler,
    /// In a long read, on a thread of its own.
    Aside,
    /// In an HTTPS page.
    Page,
    /// In a TLS handshake.
    Handshake,
}

impl Place {
    /// Its name in `BELAY_PANIC`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Handler => "handler",
            Self::Aside => "aside",
            Self::Page => "page",
            Self::Handshake => "handshake",
        }
    }

    /// Panics here, if this process was told to; with a message such as a careless `expect` would make, which
    /// shows what was at hand.
    #[cfg(debug_assertions)]
    #[expect(clippy::panic, reason = "the test that asked for it is about this")]
    pub fn reached(self) {
        use std::sync::LazyLock;
        use std::sync::atomic::{AtomicU64, Ordering};

        static TOLD: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
            let told = std::env::var("BELAY_PANIC").ok()?;
            let (place, nth) = told.split_once(':')?;
            Some((place.to_owned(), nth.parse().ok()?))
        });
        static PASSED: AtomicU64 = AtomicU64::new(0);

        let Some((place, nth)) = TOLD.as_ref() else { return };
        if place == self.as_str() && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
            std::panic::panic_any(format!("unexpected value: Secret(\"sesame of {place}\")"));
        }
    }

    /// Nothing, in a release build.
    #[cfg(not(debug_assertions))]
    pub fn reached(self) {}
}
