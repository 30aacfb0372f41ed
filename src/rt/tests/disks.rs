//! Disk operations on real files.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{BLOCK, Buf, DiskOp, DiskOutput, FaultKind, FilePath, OpId, Pool, Prng};
use crate::rt::clock;
use crate::rt::executor::{counters, current, spawn_local};
use crate::rt::timer::yield_now;
use crate::rt::{BlockingPool, DataDirectory, Disk, DiskOptions, DurableWrite};
use bytes::Bytes;

use super::{directory_on_disk, run};

const ID: OpId = OpId {
    owner: 3,
    sequence: 9,
};

fn disk_in(path: &Path, durable_write: DurableWrite, options: DiskOptions) -> Disk {
    let directory = DataDirectory {
        path: path.to_owned(),
        direct: true,
        durable_write,
        reserve_bytes: 0,
    };
    let blocking = BlockingPool::new(2).expect("threads").attach();
    Disk::new(vec![directory], options, Pool::new(4 << 20), blocking)
}

fn block(pool: Option<&Pool>, len: usize, seed: u64) -> Arc<Buf> {
    let mut buf = pool.map_or_else(|| Buf::allocate(len), |pool| pool.take(len));
    buf.set_len(len);
    Prng::new(seed).fill(&mut buf);
    Arc::new(buf)
}

async fn done(disk: &Disk, op: DiskOp) -> DiskOutput {
    let done = disk.perform(op).await;
    assert_eq!(done.id, ID);
    done.result.expect("no fault")
}

async fn fault(disk: &Disk, op: DiskOp) -> FaultKind {
    disk.perform(op).await.result.expect_err("a fault").kind
}

async fn read(disk: &Disk, file: &FilePath, at: u64, len: usize) -> Vec<u8> {
    match done(
        disk,
        DiskOp::Read {
            id: ID,
            file: file.clone(),
            at,
            len,
        },
    )
    .await
    {
        DiskOutput::Data(data) => data.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read_back_whichever_way_it_is_made_durable() {
    for way in [DurableWrite::WithTheWrite, DurableWrite::SyncAfterwards] {
        run(move || async move {
            let place = directory_on_disk();
            let pool = Pool::new(4 << 20);
            let root = DataDirectory {
                path: place.path().to_owned(),
                direct: true,
                durable_write: way,
                reserve_bytes: 0,
            };
            let blocking = BlockingPool::new(1).expect("threads").attach();
            let disk = Disk::new(vec![root], DiskOptions::default(), pool.clone(), blocking);
            let file = FilePath::new(0, "t-0/0.log");
            let data = block(Some(&pool), 64 << 10, 1);
            assert!(data.is_pooled());
            let write = |at: u64, data: &Arc<Buf>, durable| DiskOp::Write {
                id: ID,
                file: file.clone(),
                at,
                data: data.clone(),
                durable,
            };
            assert_eq!(
                fault(&disk, write(0, &data, true)).await,
                FaultKind::NotFound
            );
            done(
                &disk,
                DiskOp::MakeDirectory {
                    id: ID,
                    directory: file.parent(),
                },
            )
            .await;
            done(
                &disk,
                DiskOp::Allocate {
                    id: ID,
                    from_reserve: true,
                    file: file.clone(),
                    size: 1 << 20,
                    zeros_from: None,
                },
            )
            .await;
            done(&disk, write(0, &data, true)).await;
            let more = block(None, BLOCK, 2);
            done(&disk, write(64 << 10, &more, false)).await;
            done(
                &disk,
                DiskOp::Sync {
                    id: ID,
                    file: file.clone(),
                },
            )
            .await;
            let back = read(&disk, &file, 0, 128 << 10).await;
            assert!(back[..64 << 10] == data[..] && back[64 << 10..][..BLOCK] == more[..]);
            assert!(back[(64 << 10) + BLOCK..].iter().all(|byte| *byte == 0));
            let cut = DiskOp::Truncate {
                id: ID,
                file: file.clone(),
                size: 5000,
            };
            done(&disk, cut).await;
            assert_eq!(read(&disk, &file, 0, 64 << 10).await, data[..5000]);
            assert!(read(&disk, &file, 8192, BLOCK).await.is_empty());
            let counts = counters();
            assert_eq!(counts.durable_writes_completed, 1);
            assert_eq!(counts.relaxed_writes_completed, 1);
            assert_eq!(counts.disk_faults, 1);
        });
    }
}

#[test]
fn zeros_written_ahead_leave_alone_what_lies_before() {
    run(|| async {
        let place = directory_on_disk();
        let options = DiskOptions::default();
        let disk = disk_in(place.path(), DurableWrite::WithTheWrite, options);
        let (file, data) = (FilePath::new(0, "0.log"), block(None, 8 * BLOCK, 3));
        let at = 300 << 10;
        let allocate = |size, zeros_from| DiskOp::Allocate {
            id: ID,
            file: file.clone(),
            size,
            zeros_from,
            from_reserve: false,
        };
        done(&disk, allocate(at + data.len() as u64, None)).await;
        let write = DiskOp::Write {
            id: ID,
            file: file.clone(),
            at,
            data: data.clone(),
            durable: true,
        };
        done(&disk, write).await;
        let end = at + data.len() as u64;
        done(&disk, allocate(1 << 20, Some(end))).await;
        let back = read(&disk, &file, at, 1 << 20).await;
        assert_eq!(back.len() as u64, (1 << 20) - at);
        assert!(back[..data.len()] == data[..]);
        assert!(back[data.len()..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn names_change_and_open_files_follow() {
    run(|| async {
        let place = directory_on_disk();
        let options = DiskOptions::default();
        let disk = disk_in(place.path(), DurableWrite::WithTheWrite, options);
        let (a, b) = (FilePath::new(0, "t-0"), FilePath::new(0, "t-0.gone-delete"));
        let (old, new) = (a.join("0.log"), b.join("0.log"));
        done(
            &disk,
            DiskOp::MakeDirectory {
                id: ID,
                directory: a.clone(),
            },
        )
        .await;
        let data = block(None, BLOCK, 3);
        let write = DiskOp::Write {
            id: ID,
            file: old.clone(),
            at: 0,
            data,
            durable: true,
        };
        done(&disk, write).await;
        disk.open_file(&old).await.expect("open");
        assert_eq!(disk.open_files(), 2);
        done(
            &disk,
            DiskOp::Rename {
                id: ID,
                from: a.clone(),
                to: b.clone(),
            },
        )
        .await;
        assert_eq!(disk.open_files(), 0);
        assert_eq!(
            disk.open_file(&old).await.expect_err("gone").kind,
            FaultKind::NotFound
        );
        assert_eq!(read(&disk, &new, 0, BLOCK).await.len(), BLOCK);
        let replace = |text| DiskOp::ReplaceFile {
            id: ID,
            file: b.join("checkpoint"),
            contents: Bytes::from_static(text),
        };
        done(&disk, replace(b"one")).await;
        done(&disk, replace(b"three")).await;
        let read_file = |limit| DiskOp::ReadFile {
            id: ID,
            file: b.join("checkpoint"),
            limit,
        };
        let DiskOutput::Contents(contents) = done(&disk, read_file(5)).await else {
            panic!("no contents");
        };
        assert_eq!(&contents[..], b"three");
        assert_eq!(fault(&disk, read_file(4)).await, FaultKind::TooLarge);
        let list = || DiskOp::List {
            id: ID,
            directory: b.clone(),
        };
        let DiskOutput::Entries(entries) = done(&disk, list()).await else {
            panic!("no list")
        };
        let names: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.size)).collect();
        assert_eq!(names, [("0.log", BLOCK as u64), ("checkpoint", 5)]);
        done(
            &disk,
            DiskOp::Remove {
                id: ID,
                file: new.clone(),
            },
        )
        .await;
        done(
            &disk,
            DiskOp::Remove {
                id: ID,
                file: new.clone(),
            },
        )
        .await;
        assert_eq!(disk.open_files(), 0);
        done(
            &disk,
            DiskOp::SyncDirectory {
                id: ID,
                directory: b.clone(),
            },
        )
        .await;
        done(
            &disk,
            DiskOp::RemoveDirectory {
                id: ID,
                directory: b.clone(),
            },
        )
        .await;
        let DiskOutput::Entries(entries) = done(&disk, list()).await else {
            panic!("no list")
        };
        assert!(entries.is_empty());
    });
}

#[test]
fn open_files_and_operations_in_flight_stay_bounded() {
    run(|| async {
        let place = directory_on_disk();
        let options = DiskOptions {
            open_files_max: 8,
            writes_in_flight_max: 2,
            reads_in_flight_max: 2,
        };
        let disk = disk_in(place.path(), DurableWrite::WithTheWrite, options);
        let data = block(None, BLOCK, 4);
        let writes: Vec<_> = (0..64)
            .map(|number| {
                let (disk, data) = (disk.clone(), data.clone());
                let file = FilePath::new(0, &format!("{number}.log"));
                let write = DiskOp::Write {
                    id: ID,
                    file,
                    at: 0,
                    data,
                    durable: false,
                };
                spawn_local(async move { disk.perform(write).await.result.is_ok() })
            })
            .collect();
        for write in writes {
            assert!(write.await);
        }
        assert_eq!(disk.open_files(), 8);
        for number in [0, 63] {
            let file = FilePath::new(0, &format!("{number}.log"));
            assert_eq!(read(&disk, &file, 0, BLOCK).await, data[..]);
        }
        assert_eq!(disk.open_files(), 8);
    });
}

#[test]
fn a_path_that_leads_out_of_the_data_directory_is_refused() {
    run(|| async {
        let place = directory_on_disk();
        let options = DiskOptions::default();
        let disk = disk_in(place.path(), DurableWrite::WithTheWrite, options);
        for path in ["../x", "/etc/passwd"] {
            let file = FilePath::new(0, path);
            let read = DiskOp::ReadFile {
                id: ID,
                file,
                limit: 10,
            };
            assert_eq!(fault(&disk, read).await, FaultKind::Io(libc::EINVAL));
        }
        let file = FilePath::new(7, "x");
        assert_eq!(
            fault(&disk, DiskOp::Sync { id: ID, file }).await,
            FaultKind::Io(libc::ENODEV)
        );
    });
}

#[test]
fn where_o_direct_is_refused_writing_goes_on_buffered() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return;
    }
    run(|| async {
        let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let options = DiskOptions::default();
        let disk = disk_in(place.path(), DurableWrite::SyncAfterwards, options);
        let (file, data) = (FilePath::new(0, "x"), block(None, BLOCK, 5));
        let write = DiskOp::Write {
            id: ID,
            file: file.clone(),
            at: 0,
            data: data.clone(),
            durable: true,
        };
        done(&disk, write).await;
        assert_eq!(read(&disk, &file, 0, 2 * BLOCK).await, data[..]);
    });
}

#[test]
fn a_cold_read_makes_way_for_a_durable_write_but_not_for_ever() {
    run(|| async {
        let machine = current();
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(2));
        let write = machine.writing.begin_durable();
        machine.writing.make_way(short).await;
        let went_on = Rc::new(Cell::new(false));
        let reader = spawn_local({
            let (machine, went_on) = (machine.clone(), went_on.clone());
            async move {
                machine.writing.make_way(long).await;
                went_on.set(true);
            }
        });
        let another = machine.writing.begin_durable();
        drop(write);
        yield_now().await;
        assert!(!went_on.get(), "a second write is at the device");
        let begun = clock::mono();
        drop(another);
        reader.await;
        assert!(clock::mono().since(begun) < long);
        machine.writing.make_way(long).await;
    });
}

#[test]
fn cold_reads_are_small_after_a_durable_write_and_grow_while_none_comes() {
    run(|| async {
        let machine = current();
        let (first, max) = (24 << 10, 128 << 10);
        for _ in 0..2 {
            drop(machine.writing.begin_durable());
            let pieces = (0..100).map(|_| machine.writing.next_read(first, max) >> 10);
            assert_eq!(pieces.take(5).collect::<Vec<_>>(), [24, 48, 96, 128, 128]);
        }
    });
}

#[test]
fn the_longer_the_pauses_between_durable_writes_are_the_more_a_cold_read_may_ask_for() {
    run(|| async {
        let machine = current();
        let writing = &machine.writing;
        let (min, max) = (24 << 10, 256 << 10);
        let write = |pause: Duration| {
            let begun = clock::mono();
            while clock::mono().since(begun) < pause {}
            drop(writing.begin_durable());
        };
        (0..50).for_each(|_| write(Duration::ZERO));
        let at_device = writing.begin_durable();
        assert!(writing.is_dense());
        assert_eq!(writing.piece(min..=max), min);
        drop(at_device);
        (0..50).for_each(|_| write(Duration::from_millis(2)));
        let _at_device = writing.begin_durable();
        assert!(!writing.is_dense(), "2 ms are long");
        assert_eq!(writing.piece(min..=max), max);
    });
}

#[test]
fn a_reading_that_has_just_begun_holds_back_until_it_is_known_that_nobody_writes() {
    run(|| async {
        let machine = current();
        let begun = clock::mono();
        assert!(machine.writing.begin_cold_read());
        while machine.writing.begin_cold_read() {
            assert!(clock::mono().since(begun) < Duration::from_secs(10));
        }
        machine.writing.note();
        assert!(machine.writing.begin_cold_read(), "somebody writes");
    });
}
