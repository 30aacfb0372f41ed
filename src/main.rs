#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new("info"))
        .init();
    let mut given = corelane::config::Given::default();
    let mut arguments = std::env::args().skip(2);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match flag.as_str() {
            "--data-dir" => given.data_dir.push(value().into()),
            "--listen" => given.listen = Some(value()),
            "--admin" => given.admin = Some(value()),
            "--cores" => given.cores = Some(value()),
            "--memory" => given.memory = Some(value()),
            "--set" => given.set.push(value()),
            _ => {}
        }
    }
    let hand_over = !std::env::args().any(|flag| flag == "--no-hand-over");
    let (mut options, _) = corelane::config::Options::gather(given).expect("options");
    options.hand_over = hand_over;
    if let Err(error) = corelane::node::run(&options) {
        eprintln!("{error}");
        std::process::exit(2);
    }
}
