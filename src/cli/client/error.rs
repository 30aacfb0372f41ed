//! Why a command could not be carried out.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::protocol::{ApiKey, ErrorCode};

/// Why a command could not be carried out: one line that says what to do, where there is something.
#[derive(Debug)]
pub enum ClientError {
    /// No connection.
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The connection ended, or what came over it is not Kafka's protocol.
    Broken {
        /// `HOST:PORT`.
        address: String,
        /// What happened.
        why: String,
    },
    /// The broker does not serve what is needed, or in no version known here.
    Unsupported {
        /// `HOST:PORT`.
        address: String,
        /// The API.
        key: ApiKey,
    },
    /// The request cannot be written in the broker's version.
    Unencodable(String),
    /// There is no topic of this name.
    NoSuchTopic(String),
    /// There is no group of this id.
    NoSuchGroup(String),
    /// The broker said no.
    Refused {
        /// What was asked for: `create topic orders`.
        what: String,
        /// Kafka's code.
        error: ErrorCode,
        /// The broker's words; Kafka's own for the code if there are none.
        message: String,
    },
    /// It was tried again until the time was up.
    TimedOut {
        /// The time.
        after: Duration,
        /// What the last try said.
        last: Box<ClientError>,
    },
}

impl ClientError {
    /// A broker's refusal of `what`.
    pub fn refused(
        what: impl Into<String>,
        error: ErrorCode,
        message: Option<&str>,
    ) -> ClientError {
        let message = message.filter(|message| !message.is_empty());
        ClientError::Refused {
            what: what.into(),
            error,
            message: message.unwrap_or(error.message()).to_owned(),
        }
    }

    /// True if another try may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Broken { .. } => true,
            ClientError::Refused { error, .. } => error.is_retriable(),
            ClientError::Unsupported { .. }
            | ClientError::Unencodable(_)
            | ClientError::NoSuchTopic(_)
            | ClientError::NoSuchGroup(_)
            | ClientError::TimedOut { .. } => false,
        }
    }

    /// The broker's code, if it was the broker who said no.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { error, .. } => Some(*error),
            ClientError::TimedOut { last, .. } => last.code(),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { address, source } => write!(
                f,
                "cannot connect to {address}: {source}; is the broker running there? \
                 Choose another with --broker HOST:PORT"
            ),
            ClientError::Broken { address, why } => {
                write!(f, "the connection to {address} broke: {why}")
            }
            ClientError::Unsupported { address, key } => {
                write!(
                    f,
                    "the broker at {address} does not serve {key} in a known version"
                )
            }
            ClientError::Unencodable(why) => write!(f, "the broker's version is too old: {why}"),
            ClientError::NoSuchTopic(topic) => write!(
                f,
                "there is no topic {topic}: see `corelane topic list`, or create it with \
                 `corelane topic create {topic}`"
            ),
            ClientError::NoSuchGroup(group) => {
                write!(f, "there is no group {group}: see `corelane group list`")
            }
            ClientError::Refused {
                what,
                error,
                message,
            } => {
                let message = message.replace('\n', " ");
                write!(f, "{what}: {error}: {}", message.trim_end_matches('.'))
            }
            ClientError::TimedOut { after, last } => {
                write!(f, "{last} (tried for {} s)", after.as_secs_f64())
            }
        }
    }
}

impl std::error::Error for ClientError {}
