//! The daemon's HTTP pages. They show what a [`Source`] says and know nothing of where it has it from.
//!
//! Whoever asks is taken for hostile: few connections at a time, small requests, short patience. All of it happens on a
//! thread of its own, and what is shown is made anew no more often than the watching can spare.

mod answer;
mod budget;
pub mod config;
mod current;
mod gate;
mod negotiate;
mod places;
mod secure;
mod server;
pub(crate) mod tls;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use crate::config::Faults;

pub use current::Current;
pub use gate::NoRandomness;

/// What there is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// For a person.
    Status,
    /// The Prometheus text format.
    Metrics,
    OpenMetrics,
    /// A JSON array of the groups.
    Groups,
    /// How the IOMMU drivers kept the rules of the API so far, as JSON.
    Conformance,
    /// A JSON array of the violations that stand.
    Violations,
}

impl Page {
    pub const ALL: [Page; 6] =
        [Page::Status, Page::Metrics, Page::OpenMetrics, Page::Groups, Page::Conformance, Page::Violations];
}

/// What the pages show.
pub trait Source: Send + Sync {
    /// `Err` with the reason where the daemon doesn't watch any more; must not wait for it.
    fn healthy(&self) -> Result<(), String>;
    /// `Err` with the reason while the daemon can't vouch for what it shows.
    fn ready(&self) -> Result<(), String>;
    /// A page as it is now; it is asked for again within moments.
    fn render(&self, page: Page) -> Result<String, String>;
    /// The style sheet within the status page: the one thing that it may use.
    fn style(&self) -> &'static str;
    /// The web configuration changed and was read again: how it is now, or all that is wrong with it.
    fn configured(&self, outcome: Result<&str, &Faults>);
}

/// Where the listener could not be had.
#[derive(Debug, thiserror::Error)]
#[error("--web.listen-address {address}: {source}; give another address, or stop what listens there")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Why the pages can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the pages can't be served: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).map_err(|source| BindError { address, source })
}

/// Serves on a thread of its own until the process ends.
pub fn start(
    listeners: impl IntoIterator<Item = TcpListener>,
    source: Arc<dyn Source>,
    current: Current,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Passwords, one at a time.
        .max_blocking_threads(1)
        .build()?;
    let server = Arc::new(server::Server::new(source, current)?);
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let _within = runtime.enter();
        runtime.spawn(server.clone().serve(tokio::net::TcpListener::from_std(listener)?));
    }
    thread::Builder::new()
        .name("web".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(())
}
