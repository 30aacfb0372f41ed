//! Shards, timers, the mesh and the blocking threads.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::base::Mono;
use crate::rt::executor::{counters, on_turn, spawn_local};
use crate::rt::mesh::{Port, Sender, mesh};
use crate::rt::timer::{sleep, sleep_until, yield_now};
use crate::rt::{BlockingPool, Doorbells, ShardConfig, TimedOut, clock, spawn_shards, timeout};

use super::{cpus, run, run_shards};

/// Waits until `done`, letting others run.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        sleep(Duration::from_micros(100)).await;
    }
}

#[test]
fn timers_fire_in_order_and_not_early() {
    run(|| async {
        let start = clock::mono();
        let fired = Rc::new(RefCell::new(Vec::new()));
        for millis in [30, 10, 20] {
            let fired = fired.clone();
            spawn_local(async move {
                let at = start.after_ms(millis);
                sleep_until(at).await;
                assert!(clock::mono() >= at);
                fired.borrow_mut().push(millis);
            })
            .detach();
        }
        sleep_until(start.after_ms(40)).await;
        until(|| fired.borrow().len() == 3).await;
        assert_eq!(*fired.borrow(), [10, 20, 30]);
    });
}

#[test]
fn a_timeout_drops_what_is_late_and_passes_on_what_is_in_time() {
    run(|| async {
        let soon = || clock::mono().after_ms(5);
        let never = sleep(Duration::from_secs(3600));
        assert_eq!(timeout(soon(), never).await, Err(TimedOut));
        assert_eq!(timeout(soon(), async { 7 }).await, Ok(7));
    });
}

#[test]
fn the_turn_hook_is_called_after_work_and_at_its_deadline() {
    run(|| async {
        let calls = Rc::new(Cell::new(0));
        let (counted, at) = (calls.clone(), clock::mono().after_ms(20));
        on_turn(move |now| {
            counted.set(counted.get() + 1);
            (now.mono < at).then_some(at)
        });
        yield_now().await;
        let after_work = calls.get();
        assert!(after_work >= 1);
        until(|| clock::mono() > at.after_ms(5)).await;
        assert!(calls.get() > after_work);
    });
}

#[test]
fn a_hook_deadline_wakes_a_shard_that_has_nothing_else_to_do() {
    run(|| async {
        let start = clock::mono();
        let woken: Rc<Cell<Option<Mono>>> = Rc::default();
        let (seen, at) = (woken.clone(), start.after_ms(30));
        on_turn(move |now| {
            if now.mono >= at && seen.get().is_none() {
                seen.set(Some(now.mono));
            }
            (now.mono < at).then_some(at)
        });
        sleep_until(start.after_ms(200)).await;
        let woken = woken.get().expect("called");
        assert!(
            woken.since(at) < Duration::from_millis(100),
            "{:?} late",
            woken.since(at)
        );
    });
}

#[test]
fn an_idle_shard_uses_next_to_no_cpu() {
    let used = run(|| async {
        sleep(Duration::from_millis(50)).await;
        let before = clock::thread_cpu_ns();
        sleep(Duration::from_secs(1)).await;
        clock::thread_cpu_ns() - before
    });
    println!("an idle shard used {} us of CPU in a second", used / 1000);
    assert!(used < 15_000_000, "{used} ns of CPU in an idle second");
}

#[test]
fn a_shard_that_cannot_start_is_an_error_and_the_others_do_not_run() {
    let doorbells = Doorbells::new(2).expect("doorbells");
    let config = ShardConfig::default();
    let main = |_, ()| async { panic!("must not run") };
    let error = spawn_shards(
        &[cpus(1)[0], 100_000],
        config,
        &doorbells,
        vec![(), ()],
        main,
    );
    let error = error.expect_err("there is no such CPU");
    assert!(error.to_string().contains("CPU 100000"), "{error}");
}

#[test]
fn a_panic_in_a_task_ends_its_shard_and_is_reported() {
    let doorbells = Doorbells::new(1).expect("a doorbell");
    let config = ShardConfig::default();
    let main = |_, ()| async { panic!("on purpose") };
    let handles = spawn_shards(&cpus(1), config, &doorbells, vec![()], main).expect("started");
    for handle in handles {
        assert!(handle.join().is_err());
    }
}

/// Has every message answered by what it is plus one, until `last` was seen.
async fn answer_until(port: Port<u64>, last: u64) {
    let port = port.attach();
    let over = Rc::new(Cell::new(false));
    let (answering, seen) = (port.clone(), over.clone());
    on_turn(move |_| {
        answering.receive(64, |from, number| {
            if let Sender::Core(from) = from {
                answering
                    .send(from, number + 1)
                    .expect("room for an answer");
            }
            if number == last {
                seen.set(true);
            }
        });
        None
    });
    until(|| over.get()).await;
}

#[test]
fn a_parked_shard_is_woken_by_a_message_within_bounded_time() {
    let doorbells = Doorbells::new(2).expect("doorbells");
    let (ports, _) = mesh::<u64>(&doorbells, 16);
    let rounds = 20;
    let slowest = run_shards(&doorbells, ports, move |shard, port| async move {
        if shard.core.0 == 1 {
            // No timer of its own: only the message ends its sleep.
            let port = port.attach();
            let (answering, over) = (port.clone(), Rc::new(RefCell::new(None)));
            let waker = over.clone();
            on_turn(move |_| {
                answering.receive(64, |_, number| {
                    let _ = answering.send(0, number);
                    if number == rounds
                        && let Some(waker) = waker.borrow_mut().take()
                    {
                        std::task::Waker::wake(waker);
                    }
                });
                None
            });
            let mut asleep = true;
            std::future::poll_fn(|context| {
                if std::mem::take(&mut asleep) {
                    *over.borrow_mut() = Some(context.waker().clone());
                    return std::task::Poll::Pending;
                }
                std::task::Poll::Ready(())
            })
            .await;
            return (Duration::ZERO, counters().parks);
        }
        let port = port.attach();
        let answered = Rc::new(Cell::new(0u64));
        let (receiving, seen) = (port.clone(), answered.clone());
        on_turn(move |_| {
            receiving.receive(64, |_, number| seen.set(number));
            None
        });
        let mut slowest = Duration::ZERO;
        for round in 1..=rounds {
            sleep(Duration::from_millis(3)).await;
            let start = clock::mono();
            port.send(1, round).expect("room");
            while answered.get() != round {
                yield_now().await;
            }
            slowest = slowest.max(clock::mono().since(start));
        }
        (slowest, counters().wakes_sent)
    });
    println!("slowest round trip to a parked shard {:?}", slowest[0].0);
    assert!(slowest[0].1 > 0, "nobody was asleep");
    assert!(slowest[1].1 > 0, "the peer never slept");
    assert!(
        slowest[0].0 < Duration::from_millis(250),
        "{:?}",
        slowest[0].0
    );
}

#[test]
fn messages_from_outside_reach_a_sleeping_shard() {
    let doorbells = Doorbells::new(1).expect("a doorbell");
    let (ports, outside) = mesh::<u64>(&doorbells, 4);
    let sender = thread::spawn(move || {
        for number in 0..1000 {
            let mut message = number;
            while let Err(back) = outside.send(0, message) {
                message = back;
                thread::yield_now();
            }
        }
    });
    run_shards(&doorbells, ports, |_, port| answer_until(port, 999));
    sender.join().expect("all sent");
}

#[test]
fn a_full_queue_holds_its_sender_back_and_loses_nothing() {
    let doorbells = Doorbells::new(2).expect("doorbells");
    let (ports, _) = mesh::<u64>(&doorbells, 2);
    let count = 20_000;
    let received = run_shards(&doorbells, ports, move |shard, port| async move {
        let port = port.attach();
        let numbers = Rc::new(RefCell::new(Vec::new()));
        let (receiving, seen) = (port.clone(), numbers.clone());
        on_turn(move |_| {
            receiving.receive(2, |_, number| seen.borrow_mut().push(number));
            None
        });
        if shard.core.0 == 0 {
            for number in 0..count {
                port.send_wait(1, number).await;
            }
            until(|| !numbers.borrow().is_empty()).await;
        } else {
            until(|| numbers.borrow().len() as u64 == count).await;
            port.send_wait(0, 0).await;
        }
        numbers.take()
    });
    assert!(received[1].iter().copied().eq(0..count));
}

#[test]
fn blocking_work_comes_back_to_a_sleeping_shard() {
    let pool = BlockingPool::new(2).expect("threads");
    let sum = run(move || {
        let pool = pool.clone();
        async move {
            let port = pool.attach();
            let tasks: Vec<_> = (0..200u64)
                .map(|number| {
                    let port = port.clone();
                    spawn_local(async move { port.run(move || number).await })
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await;
            }
            sum
        }
    });
    assert_eq!(sum, 199 * 200 / 2);
}
