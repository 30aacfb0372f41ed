//! A connection that sends any bytes and reads frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;

use super::PATIENCE;

/// A socket, blocking, with deadlines.
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Wire { stream }
    }

    /// Sends bytes; an error means that the broker has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("sent");
    }

    /// Contents of the next frame, without its size; none when the broker has closed.
    pub fn try_receive(&mut self) -> Option<Bytes> {
        let mut size = [0; 4];
        self.read(&mut size)?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.read(&mut frame)?;
        Some(frame.into())
    }

    pub fn receive(&mut self) -> Bytes {
        self.try_receive()
            .expect("an answer, not a closed connection")
    }

    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer in time"),
            Err(_) => None,
        }
    }

    /// Holds that the broker closes without another byte.
    pub fn expect_close(mut self, what: &str) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{what}: {other:?} instead of a closed connection"),
        }
    }

    /// True when there is nothing to read within `wait`.
    pub fn is_silent(&mut self, wait: Duration) -> bool {
        self.stream.set_read_timeout(Some(wait)).expect("a timeout");
        let silent = matches!(self.stream.peek(&mut [0]),
            Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        silent
    }

    /// No more bytes come from us.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}
