//! Connections that do nothing: opened one after the other, each asked whether it is alive, held.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;

use super::latency::{Latency, histogram};
use crate::protocol::messages::{ApiVersionsRequest, StrBytes, encode_request};
use crate::rt::clock;

const PATIENCE: Duration = Duration::from_secs(10);

/// Open connections.
#[derive(Debug)]
pub struct Idle {
    streams: Vec<TcpStream>,
    question: Bytes,
    /// From the call to connect to the answer to a first request.
    pub connected: Option<Latency>,
}

/// Opens `count` connections to `address`; each gets the answer to one request. An error is a
/// sentence.
pub fn hold(address: &str, count: usize) -> Result<Idle, String> {
    let client_id = StrBytes::from_static_str("corelane-bench");
    let question = encode_request(0, 1, &client_id, &ApiVersionsRequest::default())
        .map_err(|reason| reason.to_string())?;
    let place = address.to_socket_addrs().map(|mut places| places.next());
    let place = place.map_err(|error| format!("{address}: {error}"))?;
    let place = place.ok_or_else(|| format!("{address} has no address"))?;
    let mut took = histogram(3);
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let began = clock::mono().0;
        let open = || -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect_timeout(&place, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(&mut stream, &question)?;
            Ok(stream)
        };
        streams.push(open().map_err(|error| format!("connection {number}: {error}"))?);
        took.saturating_record((clock::mono().0 - began).max(1));
    }
    Ok(Idle {
        streams,
        question,
        connected: Latency::of(&took, 0.0),
    })
}

impl Idle {
    /// Asks every connection again; returns how many do not answer any more.
    pub fn lost(&mut self) -> usize {
        let question = &self.question;
        let streams = self.streams.iter_mut();
        let dead = streams.filter_map(|stream| ask(stream, question).err());
        dead.count()
    }
}

fn ask(stream: &mut TcpStream, question: &[u8]) -> io::Result<()> {
    stream.write_all(question)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u64::from(u32::from_be_bytes(size));
    let answered = io::copy(&mut stream.take(size), &mut io::sink())?;
    match answered == size {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
