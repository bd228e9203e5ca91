//! The one door through which tasks start, so that what runs beside a request can be found by
//! reading who calls this.

use tokio::task::JoinHandle;

/// Runs `future` beside its caller until it is done; dropping the handle does not stop it.
#[expect(clippy::disallowed_methods, reason = "the one place that may spawn")]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(future)
}
