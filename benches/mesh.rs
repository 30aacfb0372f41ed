//! What a message between cores costs: in and out of a queue on one thread, and there and back
//! between two spinning threads. Sleeping shards are woken at a price that this does not show.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use corelane::rt::Doorbells;
use corelane::rt::mesh::mesh;
use criterion::{Criterion, criterion_group, criterion_main};

fn hop(criterion: &mut Criterion) {
    let doorbells = Doorbells::new(2).expect("doorbells");
    let (ports, _) = mesh::<u64>(&doorbells, 1024);
    criterion.bench_function("mesh/hop", |bencher| {
        bencher.iter(|| {
            ports[0].send(1, black_box(7)).expect("room");
            ports[1].receive(1, |_, number| {
                black_box(number);
            })
        });
    });
    criterion.bench_function("mesh/hop of 64", |bencher| {
        bencher.iter(|| {
            for number in 0..64 {
                ports[0].send(1, black_box(number)).expect("room");
            }
            ports[1].receive(64, |_, number| {
                black_box(number);
            })
        });
    });
}

fn ping_pong(criterion: &mut Criterion) {
    let doorbells = Doorbells::new(2).expect("doorbells");
    let (mut ports, _) = mesh::<u64>(&doorbells, 1024);
    let there = ports.pop().expect("a port");
    let here = ports.pop().expect("a port");
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let echo = thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            there.receive(64, |_, number| there.send(0, number).expect("room"));
            std::hint::spin_loop();
        }
    });
    criterion.bench_function("mesh/ping-pong", |bencher| {
        bencher.iter(|| {
            here.send(1, black_box(7)).expect("room");
            while here.receive(1, |_, number| assert_eq!(number, 7)) == 0 {
                std::hint::spin_loop();
            }
        });
    });
    over.store(true, Ordering::Relaxed);
    echo.join().expect("an echo that ends well");
}

criterion_group!(benches, hop, ping_pong);
criterion_main!(benches);
