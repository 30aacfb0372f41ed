//! Apache Kafka as the other broker: fetched from Maven Central or found in a folder, formatted, and
//! started as its own scripts start it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::super::Failed;

/// The release that is fetched.
pub(super) const VERSION: &str = "4.1.2";
/// The Maven plugin that copies jars.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// What `kafka-run-class.sh` gives every broker (KAFKA_JVM_PERFORMANCE_OPTS).
const JVM: [&str; 7] = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];

/// Heap and threads: the better of these is Kafka's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    heap: &'static str,
    network_threads: u32,
    io_threads: u32,
}

/// As delivered (`kafka-server-start.sh`, `server.properties`), and fit for few CPUs.
pub(super) const SETTINGS: [Setting; 2] = [
    Setting {
        name: "as-delivered",
        heap: "1G",
        network_threads: 3,
        io_threads: 8,
    },
    Setting {
        name: "few-threads",
        heap: "2G",
        network_threads: 1,
        io_threads: 2,
    },
];

impl Setting {
    /// What it is, in words.
    pub(super) fn words(&self) -> String {
        format!(
            "-Xms{0} -Xmx{0}, num.network.threads={1}, num.io.threads={2}",
            self.heap, self.network_threads, self.io_threads
        )
    }
}

/// Where Kafka's jars are.
#[derive(Clone, Debug)]
pub(super) struct Kafka {
    libraries: PathBuf,
}

impl Kafka {
    /// The jars of `home` (an unpacked release), or those fetched earlier, or fetched now by `mvn`.
    pub(super) fn find(home: Option<&Path>) -> Result<Kafka, Failed> {
        if let Some(home) = home {
            let libraries = home.join("libs");
            if !libraries.is_dir() {
                let home = home.display();
                return Err(Failed::usage(format!(
                    "--kafka-home {home}: there is no libs in it"
                )));
            }
            return Ok(Kafka { libraries });
        }
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .unwrap_or_else(std::env::temp_dir);
        let folder = cache.join(format!("corelane/kafka-{VERSION}"));
        let libraries = folder.join("libs");
        if !libraries
            .join(format!("kafka-tools-{VERSION}.jar"))
            .exists()
        {
            fetch(&folder, &libraries)?;
        }
        Ok(Kafka { libraries })
    }

    /// A command that runs one of Kafka's classes.
    pub(super) fn java(&self, wrapper: &[String], flags: &[String], class: &str) -> Command {
        let mut words = wrapper.to_vec();
        words.push("java".to_owned());
        words.extend(flags.iter().cloned());
        words.push("-cp".to_owned());
        words.push(format!("{}/*", self.libraries.display()));
        words.push(class.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// The broker: one node that is broker and controller, on a directory formatted here.
    pub(super) fn broker(
        &self,
        wrapper: &[String],
        directory: &Path,
        (port, controller): (u16, u16),
        setting: Setting,
    ) -> Result<Command, Failed> {
        let file = |name: &str| directory.join(name);
        let lines = [
            "node.id=1".to_owned(),
            "process.roles=broker,controller".to_owned(),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("log.dirs={}", file("data").display()),
            "offsets.topic.replication.factor=1".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            format!("num.network.threads={}", setting.network_threads),
            format!("num.io.threads={}", setting.io_threads),
        ];
        let told =
            |error: std::io::Error| Failed::operation(format!("{}: {error}", directory.display()));
        fs::write(file("server.properties"), lines.join("\n")).map_err(told)?;
        let log = "status=warn\nappender.out.type=Console\nappender.out.name=out\n\
                   appender.out.layout.type=PatternLayout\nrootLogger.level=warn\n\
                   rootLogger.appenderRef.out.ref=out\n";
        fs::write(file("log4j2.properties"), log).map_err(told)?;
        let properties = file("server.properties").display().to_string();
        let mut format = self.java(&[], &[], "kafka.tools.StorageTool");
        format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", &properties]);
        run(&mut format)?;
        let mut flags: Vec<String> = JVM.map(str::to_owned).to_vec();
        flags.push(format!("-Xms{}", setting.heap));
        flags.push(format!("-Xmx{}", setting.heap));
        let log = file("log4j2.properties");
        flags.push(format!("-Dlog4j2.configurationFile={}", log.display()));
        let mut broker = self.java(wrapper, &flags, "kafka.Kafka");
        broker.arg(properties);
        Ok(broker)
    }
}

/// Brings Kafka's jars into `libraries`.
fn fetch(folder: &Path, libraries: &Path) -> Result<(), Failed> {
    let artifact = |group: &str, name: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>corelane</groupId><artifactId>kafka</artifactId><version>0</version>\
         <packaging>pom</packaging><dependencies>{}{}{}</dependencies></project>",
        artifact("org.apache.kafka", "kafka_2.13", VERSION),
        artifact("org.apache.kafka", "kafka-tools", VERSION),
        artifact("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
    );
    let told = |error: std::io::Error| Failed::operation(format!("{}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(told)?;
    fs::write(folder.join("pom.xml"), pom).map_err(told)?;
    eprintln!(
        "fetching Apache Kafka {VERSION} from Maven Central into {}",
        folder.display()
    );
    let mut maven = Command::new("mvn");
    maven.current_dir(folder).args(["-q", "-B", COPY]);
    maven.args(["-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", libraries.display()));
    run(&mut maven).map_err(|failed| {
        Failed::operation(format!(
            "{failed}; install Maven, or unpack a release and name it with --kafka-home DIR"
        ))
    })
}

/// Runs a command to its end; says what went wrong in its last lines.
pub(super) fn run(command: &mut Command) -> Result<(), Failed> {
    output(command).map(drop)
}

/// As [`run`]; what it printed.
pub(super) fn output(command: &mut Command) -> Result<String, Failed> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failed::operation(format!("{name}: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let all = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let last = last_lines(&all);
    Err(Failed::operation(format!(
        "{name}: {}: {last}",
        output.status
    )))
}

/// The last lines of what a command printed, in one.
pub(super) fn last_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}
