//! Connections: echo, slow readers, hand-over, files, broken peers.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::base::Prng;
use crate::rt::clock::mono;
use crate::rt::executor::{counters, on_turn, spawn_local};
use crate::rt::mesh::mesh;
use crate::rt::timer::sleep;
use crate::rt::{Doorbells, Listener, Stream, bind_all};

use super::{directory_on_disk, run, run_shards};

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Prng::new(len as u64).fill(&mut bytes);
    bytes
}

/// Sends back what comes, in pieces, until the peer has finished.
async fn echo(stream: Stream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let (count, mut buffer) = stream.receive_into(BytesMut::with_capacity(64 << 10)).await;
        if count? == 0 {
            return Ok(());
        }
        let half = buffer.len() / 2;
        let first = buffer.split_to(half).freeze();
        stream
            .send_vectored(vec![first, Bytes::new(), buffer.freeze()])
            .await?;
    }
}

/// Connects, as soon as the shard listens.
fn connect(address: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => thread::yield_now(),
            other => return other.expect("a connection"),
        }
    }
}

/// A client that sends `sent` and reads as much back.
fn exchange(address: SocketAddr, sent: Vec<u8>) -> Vec<u8> {
    let mut stream = connect(address);
    let mut writing = stream.try_clone().expect("a second handle");
    let writer = thread::spawn(move || {
        writing.write_all(&sent).expect("all written");
        writing.shutdown(Shutdown::Write).expect("the end");
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("all read");
    writer.join().expect("a writer that ends well");
    received
}

#[test]
fn two_shards_on_one_port_echo_everything_in_order() {
    let doorbells = Doorbells::new(2).expect("doorbells");
    let (ports, outside) = mesh::<()>(&doorbells, 1);
    let bound = bind_all(any_port(), 2).expect("a port");
    let address = bound[0].address();
    let clients = thread::spawn(move || {
        let clients: Vec<_> = (1..=8)
            .map(|n| {
                thread::spawn(move || (noise(n * 99_991), exchange(address, noise(n * 99_991))))
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        (0..2).for_each(|core| outside.send(core, ()).expect("room"));
        results
    });
    let seeds: Vec<_> = ports.into_iter().zip(bound).collect();
    let accepted = run_shards(&doorbells, seeds, |_, (port, bound)| async move {
        let listener = Listener::listen(bound).expect("listening");
        spawn_local(async move {
            while let Ok(stream) = listener.accept().await {
                spawn_local(async move { echo(stream).await.expect("an echo") }).detach();
            }
        })
        .detach();
        wait_for_message(port.attach()).await;
        counters().accepts
    });
    for result in clients.join().expect("clients") {
        let (sent, received) = result.expect("a client that ends well");
        assert!(
            sent == received,
            "{} bytes came back of {}",
            received.len(),
            sent.len()
        );
    }
    assert_eq!(accepted.iter().sum::<u64>(), 8);
}

/// Waits until some message has come.
async fn wait_for_message<T: Send + 'static>(port: Rc<crate::rt::Port<T>>) -> T {
    let slot = Rc::new(std::cell::RefCell::new(None));
    let seen = slot.clone();
    on_turn(move |_| {
        port.receive(1, |_, message| *seen.borrow_mut() = Some(message));
        None
    });
    loop {
        if let Some(message) = slot.borrow_mut().take() {
            return message;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_connection_handed_to_another_shard_goes_on_there() {
    let doorbells = Doorbells::new(2).expect("doorbells");
    let (ports, _) = mesh::<OwnedFd>(&doorbells, 4);
    let mut bound = bind_all(any_port(), 1).expect("a port");
    let address = bound[0].address();
    let client = thread::spawn(move || exchange(address, noise(1 << 20)));
    let mut bound = bound.pop();
    let seeds = ports.into_iter().map(|port| (port, bound.take())).collect();
    run_shards(&doorbells, seeds, |_, (port, bound)| async move {
        let port = port.attach();
        match bound {
            Some(bound) => {
                let listener = Listener::listen(bound).expect("listening");
                let stream = listener.accept().await.expect("a connection");
                let (count, buffer) = stream.receive_into(BytesMut::with_capacity(100)).await;
                assert!(count.expect("some bytes") > 0);
                stream
                    .send_vectored(vec![buffer.freeze()])
                    .await
                    .expect("sent");
                port.send(1, stream.into_descriptor().expect("alone"))
                    .expect("room");
            }
            None => {
                let stream = Stream::from_descriptor(wait_for_message(port).await);
                echo(stream).await.expect("an echo");
            }
        }
    });
    assert!(client.join().expect("a client") == noise(1 << 20));
}

#[test]
fn a_slow_reader_gets_every_byte_of_a_large_transfer() {
    let mut bound = bind_all(any_port(), 1).expect("a port");
    let (address, size) = (bound[0].address(), 24 << 20);
    let client = thread::spawn(move || {
        let mut stream = connect(address);
        let (mut received, mut piece) = (Vec::new(), vec![0; 7001]);
        loop {
            match stream.read(&mut piece).expect("bytes") {
                0 => return received,
                count => received.extend_from_slice(&piece[..count]),
            }
        }
    });
    let doorbells = Doorbells::new(1).expect("a doorbell");
    run_shards(
        &doorbells,
        vec![bound.pop().expect("a socket")],
        move |_, bound| async move {
            let listener = Listener::listen(bound).expect("listening");
            let stream = listener.accept().await.expect("a connection");
            let whole = Bytes::from(noise(size));
            let parts = (0..size)
                .step_by(100_003)
                .map(|at| whole.slice(at..size.min(at + 100_003)));
            stream.send_vectored(parts.collect()).await.expect("sent");
            stream.close().await;
        },
    );
    assert!(client.join().expect("a client") == noise(size));
}

#[test]
fn a_file_that_is_not_in_the_page_cache_is_sent_byte_for_byte() {
    let directory = directory_on_disk();
    let path = directory.path().join("segment.log");
    let size = (5 << 20) + 123;
    fs::write(&path, noise(size)).expect("written");
    let file = File::open(&path).expect("open");
    file.sync_all().expect("synced");
    drop_from_cache(&file, size);
    let mut bound = bind_all(any_port(), 1).expect("a port");
    let address = bound[0].address();
    let client = thread::spawn(move || {
        let mut received = Vec::new();
        let mut stream = connect(address);
        stream.read_to_end(&mut received).expect("all read");
        received
    });
    let (seed, doorbells) = ((bound.pop().expect("a socket"), file), Doorbells::new(1));
    let counts = run_shards(
        &doorbells.expect("a doorbell"),
        vec![seed],
        move |_, (bound, file)| async move {
            let listener = Listener::listen(bound).expect("listening");
            let stream = listener.accept().await.expect("a connection");
            let file = Arc::new(file);
            stream
                .send_beside_file(vec![Bytes::from_static(b"head")])
                .await
                .expect("head");
            stream
                .send_file(file.clone(), 77, size as u64 - 77)
                .await
                .expect("cold");
            let cold = counters().sendfile_cold_slices;
            stream
                .send_file(file.clone(), 0, 300_000)
                .await
                .expect("warm");
            let beyond = stream.send_file(file, size as u64, 1).await;
            assert_eq!(
                beyond.map_err(|e| e.kind()),
                Err(io::ErrorKind::UnexpectedEof)
            );
            (cold, counters())
        },
    );
    let received = client.join().expect("a client");
    let expected = [b"head", &noise(size)[77..], &noise(size)[..300_000]].concat();
    assert!(
        received == expected,
        "{} bytes of {}",
        received.len(),
        expected.len()
    );
    let (cold, all) = &counts[0];
    assert!(*cold > 0, "nothing was cold");
    assert!(
        all.sendfile_cold_slices - cold <= 1,
        "the warm pass was cold"
    );
    assert_eq!(all.sendfile_bytes, (size - 77 + 300_000) as u64);
}

fn drop_from_cache(file: &File, size: usize) {
    use std::os::fd::AsRawFd;
    let (size, advice) = (size as libc::off_t, libc::POSIX_FADV_DONTNEED);
    // SAFETY: the descriptor is open; only advice.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, size, advice) };
    assert_eq!(result, 0);
}

#[test]
fn a_taken_port_is_refused_with_advice() {
    let taken = TcpListener::bind(any_port()).expect("a port");
    let error = bind_all(taken.local_addr().expect("an address"), 2).expect_err("taken");
    assert!(error.to_string().contains("taken"), "{error}");
    // Also by sockets that would share it.
    let ours = bind_all(any_port(), 1).expect("a port");
    let doorbells = Doorbells::new(1).expect("a doorbell");
    run_shards(&doorbells, ours, |_, bound| async move {
        let address = bound.address();
        let _listener = Listener::listen(bound).expect("listening");
        assert!(bind_all(address, 1).is_err());
    });
}

#[test]
fn when_descriptors_run_out_the_waiting_connection_is_turned_away_at_once() {
    let mut bound = bind_all(any_port(), 1).expect("a port");
    let address = bound[0].address();
    let doorbells = Doorbells::new(1).expect("a doorbell");
    run_shards(
        &doorbells,
        vec![bound.pop().expect("a socket")],
        move |_, bound| async move {
            let listener = Listener::listen(bound).expect("listening");
            let client = Stream::connect(address).await.expect("connected");
            let exhausted = io::Error::from_raw_os_error(libc::EMFILE);
            listener.turn_away(&exhausted);
            let (count, _) = client.receive_into(BytesMut::with_capacity(1)).await;
            assert!(!matches!(count, Ok(1..)), "turned away");
            // Without its reserve it can only wait.
            listener.turn_away(&exhausted);
            assert_eq!(counters().accepts_refused, 1);
            listener.restore_reserve();
            let _client = Stream::connect(address).await.expect("connected");
            listener.accept().await.expect("back in business");
        },
    );
}

#[test]
fn a_peer_that_resets_gives_an_error_and_never_a_panic() {
    let mut bound = bind_all(any_port(), 1).expect("a port");
    let address = bound[0].address();
    let client = thread::spawn(move || {
        let mut stream = connect(address);
        // Closing with bytes unread makes the kernel send a reset.
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a byte");
    });
    let doorbells = Doorbells::new(1).expect("a doorbell");
    run_shards(
        &doorbells,
        vec![bound.pop().expect("a socket")],
        |_, bound| async move {
            let listener = Listener::listen(bound).expect("listening");
            let stream = listener.accept().await.expect("a connection");
            let piece = Bytes::from(vec![1; 1 << 20]);
            let broken = loop {
                if let Err(error) = stream
                    .send_vectored(vec![piece.clone(), piece.clone()])
                    .await
                {
                    break error;
                }
            };
            let reset = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            assert!(reset.contains(&broken.kind()), "{broken}");
            let (count, _) = stream.receive_into(BytesMut::with_capacity(10)).await;
            assert!(!matches!(count, Ok(1..)));
        },
    );
    client.join().expect("a client");
}

#[test]
fn shutting_down_ends_a_read_in_flight_and_connect_reports_refusal() {
    run(|| async {
        let bound = bind_all(any_port(), 1)
            .expect("a port")
            .pop()
            .expect("a socket");
        let address = bound.address();
        assert!(
            Stream::connect(address).await.is_err(),
            "nobody listens yet"
        );
        let listener = Listener::listen(bound).expect("listening");
        let ours = Stream::connect(address).await.expect("connected");
        let theirs = listener.accept().await.expect("accepted");
        assert_eq!(theirs.peer().expect("peer"), ours.local().expect("local"));
        let reading = theirs.clone();
        let read = spawn_local(async move {
            reading
                .receive_into(BytesMut::with_capacity(10))
                .await
                .0
                .expect("the end")
        });
        sleep(Duration::from_millis(2)).await;
        theirs.shut_down();
        assert_eq!(read.await, 0);
    });
}

/// Both ends of a connection.
async fn connected() -> (Stream, Stream) {
    let bound = bind_all(any_port(), 1).expect("a port").pop();
    let bound = bound.expect("a socket");
    let address = bound.address();
    let listener = Listener::listen(bound).expect("listening");
    let ours = Stream::connect(address).await.expect("connected");
    (ours, listener.accept().await.expect("accepted"))
}

#[test]
fn an_abandoned_receive_keeps_its_buffer_until_the_kernel_lets_go() {
    run(|| async {
        let (ours, theirs) = connected().await;
        let reading = theirs.clone();
        let task = spawn_local(async move {
            let _ = reading.receive_into(BytesMut::with_capacity(4096)).await;
        });
        sleep(Duration::from_millis(2)).await;
        drop(task);
        // A task is dropped when its turn comes, and only then is the receive cancelled.
        sleep(Duration::from_millis(2)).await;
        ours.send_vectored(vec![Bytes::from_static(b"hello")])
            .await
            .expect("sent");
        sleep(Duration::from_millis(2)).await;
        // The cancelled receive has let go: its bytes are for the next one.
        let (count, buffer) = theirs.receive_into(BytesMut::with_capacity(4096)).await;
        assert_eq!((count.expect("bytes"), &buffer[..]), (5, &b"hello"[..]));
    });
}

#[test]
fn a_receive_that_is_given_up_gives_its_buffer_back_and_loses_no_byte() {
    run(|| async {
        let (ours, theirs) = connected().await;
        let soon = || mono().after(Duration::from_millis(2));
        let mut buffer = BytesMut::from(&b"kept "[..]);
        buffer.reserve(100);
        let (none, buffer) = theirs.receive_until(soon(), buffer).await;
        assert_eq!(
            (none.expect("no error"), &buffer[..]),
            (None, &b"kept "[..])
        );
        ours.send_vectored(vec![Bytes::from_static(b"hello")])
            .await
            .expect("sent");
        let later = mono().after(Duration::from_secs(60));
        let (some, buffer) = theirs.receive_until(later, buffer).await;
        assert_eq!(some.expect("bytes"), Some(5));
        assert_eq!(&buffer[..], b"kept hello");
        ours.shut_down();
        let (end, _) = theirs.receive_until(later, buffer).await;
        assert_eq!(end.expect("no error"), Some(0));
    });
}
