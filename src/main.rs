use std::sync::Arc;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new("info"))
        .init();
    let args: Vec<String> = std::env::args().collect();
    let options = corelane::config::Options {
        data_directories: vec![args[1].clone().into()],
        listen: args[2].parse().unwrap(),
        advertise: None,
        admin: Some(args[3].parse().unwrap()),
        cpus: corelane::rt::limits::cpus(),
        memory_bytes: 1 << 30,
        hand_over: true,
        configs: Arc::default(),
    };
    if let Err(error) = corelane::node::run(&options) {
        eprintln!("{error}");
        std::process::exit(2);
    }
}
