//! Produce by route: on the core that accepted the connection, handed over to the partition's core,
//! and forwarded to it for each request, as the broker's own histograms tell it (`/v1/latency`).

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Broker, print_latency, produce, setting, small_batch};

const CONNECTIONS: usize = 4;

impl Broker {
    fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the HTTP door");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        let (_, body) = reply.split_once("\r\n\r\n").expect("a body");
        body.to_owned()
    }

    /// The rows of `/v1/latency`.
    pub fn latencies(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.http("/v1/latency")).expect("JSON")
    }

    /// Batches that core `core` has appended.
    fn appended_on(&self, core: usize) -> u64 {
        let series = format!("corelane_produced_batches_total{{core=\"{core}\"}} ");
        let text = self.http("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.and_then(|value| value.parse().ok()).expect("a count")
    }
}

/// Shows the rows of these names that counted anything.
pub fn show(rows: &[serde_json::Value], names: &[&str]) {
    let micros = |row: &serde_json::Value, key: &str| row[key].as_f64().unwrap_or(0.0) * 1e6;
    for row in rows {
        let name = row["name"].as_str().unwrap_or_default();
        if names.contains(&name) && row["count"].as_u64() > Some(0) {
            println!(
                "    {:<34} {:<12} {:>8}  p50 {:>6.0} us  p99 {:>6.0} us",
                name,
                row["of"].as_str().unwrap_or_default(),
                row["count"],
                micros(row, "p50"),
                micros(row, "p99"),
            );
        }
    }
}

pub fn routing() {
    println!(
        "routing, two cores, one 1 KiB record a request, durable, 1 in flight on each of {CONNECTIONS} connections"
    );
    let rounds = setting("CORELANE_BENCH_ROUNDS", 3);
    for round in 0..rounds {
        for (topics, name, extra) in [
            (1, "hand-over", &[][..]),
            (1, "forwarding only", &["--no-hand-over"][..]),
            (2, "hand-over", &[][..]),
            (2, "forwarding only", &["--no-hand-over"][..]),
        ] {
            let broker = Broker::start("routing", "0,1", extra);
            // Partitions are dealt out in turn: that of the second topic lives on the other core.
            let topic = ["r", "s"][topics - 1];
            if topics == 2 {
                broker.create("r", 1);
            }
            broker.create(topic, 1);
            let produced = produce(&broker, topic, 1, &small_batch(), CONNECTIONS, 1);
            let shared = broker.appended_on(1) > 0;
            let whose = if shared {
                "the client's CPU"
            } else {
                "a CPU of its own"
            };
            let name = format!(
                "  {name}, the partition on {whose}: {:.0} requests/s, broker CPU {:.0} us a request",
                produced.requests_a_second,
                produced.cpu_seconds_a_gigabyte * small_batch().len() as f64 / 1e3,
            );
            print_latency(&name, &produced.latency);
            let rows = broker.latencies();
            show(&rows, &["corelane_produce_route_seconds"]);
            if round + 1 == rounds {
                let more = [
                    "corelane_produce_seconds",
                    "corelane_mesh_seconds",
                    "corelane_disk_seconds",
                    "corelane_turn_seconds",
                ];
                show(&rows, &more);
            }
        }
    }
}
