//! One connection to one broker: one request, one answer.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;

use super::ClientError;
use crate::protocol::api::decodable_max;
use crate::protocol::header::{FRAME_SIZE_BYTES, parse_response_header};
use crate::protocol::messages::{self, ApiVersionsRequest, Request, StrBytes};
use crate::protocol::{ApiKey, ErrorCode, frame_size};

/// The largest answer that is read, in bytes: a fetch asks for far less.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// A connection whose broker has told its versions.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    client_id: StrBytes,
    correlation_id: i32,
    /// Lowest and highest version by API number.
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects to `HOST:PORT` and asks for the broker's versions. `patience` bounds each wait.
    pub fn open(
        address: &str,
        client_id: &StrBytes,
        patience: Duration,
    ) -> Result<Connection, ClientError> {
        let stream = connect(address, patience).map_err(|source| ClientError::Unreachable {
            address: address.to_owned(),
            source,
        })?;
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            client_id: client_id.clone(),
            correlation_id: 0,
            versions: BTreeMap::new(),
        };
        connection.ask_versions()?;
        Ok(connection)
    }

    /// Version 3 first; a broker that does not know it answers in version 0 (KIP-511).
    fn ask_versions(&mut self) -> Result<(), ClientError> {
        let key = ApiKey::ApiVersions;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("corelane"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut body = self.exchange(&request, 3)?;
        let mut version = 3;
        if body.get(..2) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes()[..]) {
            body = self.exchange(&ApiVersionsRequest::default(), 0)?;
            version = 0;
        }
        let response = messages::decode_response::<ApiVersionsRequest>(body, version)
            .map_err(|malformed| self.broken(malformed))?;
        if response.error_code != 0 {
            let error = ErrorCode::from_code(response.error_code);
            let error = error.unwrap_or(ErrorCode::UnknownServerError);
            return Err(ClientError::refused(key.name(), error, None));
        }
        let rows = response.api_keys.iter();
        self.versions = rows
            .map(|row| (row.api_key, (row.min_version, row.max_version)))
            .collect();
        Ok(())
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The highest version in `least..=most` that the broker serves.
    pub fn version(&self, key: ApiKey, least: i16, most: i16) -> Result<i16, ClientError> {
        let served = self.versions.get(&key.code());
        let version = served.map(|(min, max)| (least.max(*min), most.min(*max)));
        version
            .filter(|(low, high)| low <= high)
            .map(|(_, high)| high)
            .ok_or_else(|| ClientError::Unsupported {
                address: self.address.clone(),
                key,
            })
    }

    /// Sends a request in the highest version that both know, `most` at most, and waits for its
    /// answer.
    pub fn call<T: Request>(&mut self, request: &T, most: i16) -> Result<T::Response, ClientError> {
        let key = ApiKey::from_code(T::KEY).expect("every request has a named key");
        let most = most.min(decodable_max(key));
        let version = self.version(key, T::VERSIONS.min, most)?;
        let body = self.exchange(request, version)?;
        messages::decode_response::<T>(body, version).map_err(|malformed| self.broken(malformed))
    }

    fn exchange<T: Request>(&mut self, request: &T, version: i16) -> Result<Bytes, ClientError> {
        let id = self.next_correlation_id();
        let frame = messages::encode_request(version, id, &self.client_id, request)
            .map_err(|reason| ClientError::Unencodable(reason.to_string()))?;
        self.send(&frame)?;
        let key = ApiKey::from_code(T::KEY).expect("every request has a named key");
        self.receive(key, version, id)
    }

    /// The number for the next request that is framed by the caller, for [`Connection::send`].
    pub fn next_correlation_id(&mut self) -> i32 {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        self.correlation_id
    }

    /// What this client calls itself.
    pub fn client_id(&self) -> &StrBytes {
        &self.client_id
    }

    /// Sends a whole frame.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), ClientError> {
        self.stream
            .write_all(frame)
            .map_err(|error| self.broken(error))
    }

    /// Waits for the answer to a request; returns its body.
    pub fn receive(
        &mut self,
        key: ApiKey,
        version: i16,
        correlation_id: i32,
    ) -> Result<Bytes, ClientError> {
        let mut prefix = [0; FRAME_SIZE_BYTES];
        self.read_exact(&mut prefix)?;
        let size = frame_size(prefix, ANSWER_BYTES_MAX).map_err(|error| self.broken(error))?;
        // Grows by what comes, not by what was announced.
        let mut frame = Vec::with_capacity(size.min(1 << 20));
        let read = (&self.stream).take(size as u64).read_to_end(&mut frame);
        read.map_err(|error| self.broken(waiting(error)))?;
        if frame.len() < size {
            return Err(self.broken("it was closed in the middle of an answer"));
        }
        let (id, body) = parse_response_header(&frame.into(), key, version)
            .map_err(|malformed| self.broken(malformed))?;
        if id != correlation_id {
            return Err(self.broken(format!("answer {id} came for request {correlation_id}")));
        }
        Ok(body)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ClientError> {
        self.stream
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.broken("the broker closed it"),
                _ => self.broken(waiting(error)),
            })
    }

    /// An error of this connection.
    pub fn broken(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Broken {
            address: self.address.clone(),
            why: why.to_string(),
        }
    }
}

/// A socket that timed out says "resource temporarily unavailable", which helps nobody.
fn waiting(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
        }
        _ => error,
    }
}

fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, patience) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
