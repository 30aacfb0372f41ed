//! The flags that every command with a broker has.

use std::time::Duration;

use clap::Args;

use super::client::{Client, Settings};
use crate::protocol::messages::StrBytes;

/// Where the broker is, and how patient to be.
#[derive(Args, Clone, Debug)]
pub struct Broker {
    /// Brokers to begin with: HOST:PORT, several with commas
    #[arg(
        short,
        long = "broker",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = crate::config::LISTEN_DEFAULT,
        help_heading = "Connection"
    )]
    brokers: Vec<String>,

    /// Seconds to keep trying before giving up
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "10",
        value_parser = clap::value_parser!(u64).range(1..=3600),
        help_heading = "Connection"
    )]
    timeout: u64,
}

impl Broker {
    /// A client for it, not connected yet.
    pub fn client(&self) -> Client {
        Client::new(Settings {
            bootstrap: self.brokers.clone(),
            client_id: StrBytes::from_static_str("corelane"),
            timeout: Duration::from_secs(self.timeout),
        })
    }
}
