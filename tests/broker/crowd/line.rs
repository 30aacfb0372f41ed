//! One connection, as a task waits on it.

use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use corelane::protocol::ApiKey;
use corelane::protocol::header::parse_response_header;
use corelane::protocol::messages;
use tokio::net::TcpStream;

use crate::support::client::text;

/// A connection to a broker; one request at a time.
pub struct Line {
    stream: TcpStream,
    received: BytesMut,
    number: i32,
}

impl Line {
    /// Connects; none when nobody listens.
    pub async fn connect(address: SocketAddr) -> Option<Line> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Line {
            stream,
            received: BytesMut::new(),
            number: 0,
        })
    }

    /// Any request but Produce and Fetch, and its answer; none when the broker has gone away.
    pub async fn call<T: messages::Request>(
        &mut self,
        version: i16,
        request: &T,
    ) -> Option<T::Response> {
        self.number += 1;
        let frame = messages::encode_request(version, self.number, &text("crowd"), request);
        self.send(&frame.expect("a request that the version can say"))
            .await?;
        let frame = self.receive().await?;
        let key = ApiKey::from_code(T::KEY).expect("an API");
        let (answered, body) = parse_response_header(&frame, key, version).expect("a header");
        assert_eq!(
            answered, self.number,
            "{key}: the answer to another request"
        );
        Some(messages::decode_response::<T>(body, version).expect("a response of that version"))
    }

    async fn send(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            self.stream.writable().await.ok()?;
            match self.stream.try_write(bytes) {
                Ok(size) => bytes = &bytes[size..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    async fn receive(&mut self) -> Option<Bytes> {
        let mut some = [0; 16 << 10];
        loop {
            if let Some(size) = self.received.first_chunk::<4>() {
                let size = u32::from_be_bytes(*size) as usize;
                if self.received.len() >= 4 + size {
                    return Some(self.received.split_to(4 + size).freeze().slice(4..));
                }
            }
            self.stream.readable().await.ok()?;
            match self.stream.try_read(&mut some) {
                Ok(0) => return None,
                Ok(size) => self.received.extend_from_slice(&some[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}
