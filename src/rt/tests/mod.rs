//! The room as a whole, on real shards, sockets and files.

mod disks;
mod shards;
mod sockets;

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Doorbells, Shard, ShardConfig, clock, limits, spawn_shards, timeout};

/// No test may take longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory on the disk that the repository is on: /tmp may be memory without O_DIRECT.
fn directory_on_disk() -> TempDir {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    std::fs::create_dir_all(target).expect("a target directory");
    tempfile::tempdir_in(target).expect("a directory")
}

/// CPUs for `count` shards; shards share one if there are too few.
fn cpus(count: usize) -> Vec<usize> {
    limits::cpus().into_iter().cycle().take(count).collect()
}

/// Runs `main` on as many shards as there are seeds; gives what each returned, in order.
fn run_shards<S, T, F, M>(doorbells: &Doorbells, seeds: Vec<S>, main: F) -> Vec<T>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Fn(Shard, S) -> M + Clone + Send + 'static,
    M: Future<Output = T> + 'static,
{
    let cores = seeds.len();
    let (sender, results) = mpsc::channel();
    let main = move |shard: Shard, seed| {
        let (sender, main) = (sender.clone(), main.clone());
        async move {
            let deadline = clock::mono().after(PATIENCE);
            let result = timeout(deadline, main(shard, seed)).await.expect("in time");
            let _ = sender.send((shard.core, result));
        }
    };
    let config = ShardConfig::default();
    let handles = spawn_shards(&cpus(cores), config, doorbells, seeds, main).expect("shards");
    for handle in handles {
        handle.join().expect("a shard that ends well");
    }
    let mut results: Vec<_> = results.iter().collect();
    results.sort_by_key(|(core, _)| *core);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs `main` on one shard.
fn run<T, F, M>(main: F) -> T
where
    T: Send + 'static,
    F: Fn() -> M + Clone + Send + 'static,
    M: Future<Output = T> + 'static,
{
    let doorbells = Doorbells::new(1).expect("a doorbell");
    run_shards(&doorbells, vec![()], move |_, ()| main())
        .pop()
        .expect("a result")
}
