//! From what a person said to what a node runs with.

use std::path::PathBuf;
use std::sync::Arc;

use super::file::{self, OWN, Said};
use super::{
    ADMIN_DEFAULT, DATA_DIRECTORY_DEFAULT, Given, LISTEN_DEFAULT, MEMORY_PER_CORE_DEFAULT_MAX,
    MEMORY_PER_CORE_MIN, Options, Refused, listeners, quantities,
};
use crate::cluster::configs::{
    StaticConfigs, broker_config, nearest, nearest_broker_config, parse_broker,
};
use crate::rt::limits;

/// What the machine has to give.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// CPUs that this process may run on.
    pub cpus: Vec<usize>,
    /// Memory that it may use, in bytes.
    pub memory_bytes: Option<u64>,
}

impl Options {
    /// Gathers and checks everything that was said, with what is worth a warning: a line each.
    pub fn gather(given: Given) -> Result<(Options, Vec<String>), Refused> {
        let said = match &given.config_file {
            Some(path) => file::read(path)?,
            None => Said::default(),
        };
        let machine = Machine {
            cpus: limits::cpus(),
            memory_bytes: limits::memory_bytes(),
        };
        Gathering::new(given, said).options(&machine)
    }
}

/// A value and where it was said, for errors: `--listen`, `listen`, `listeners`.
struct Value {
    source: String,
    text: String,
}

impl Value {
    fn refused(&self, why: impl std::fmt::Display) -> Refused {
        Refused(format!(
            "invalid value {:?} for {}: {why}",
            self.text, self.source
        ))
    }
}

pub(super) struct Gathering {
    given: Given,
    said: Said,
    warnings: Vec<String>,
}

impl Gathering {
    pub(super) fn new(given: Given, said: Said) -> Gathering {
        Gathering {
            given,
            said,
            warnings: Vec::new(),
        }
    }

    pub(super) fn options(mut self, machine: &Machine) -> Result<(Options, Vec<String>), Refused> {
        let set = self.set()?;
        let mut configs = self.file_configs()?;
        let in_file = configs.clone();
        configs.extend(set.clone());

        let data_directories = self.data_directories(&set, &in_file);
        let listen = self.place(
            "listen",
            self.given.listen.clone(),
            "listeners",
            &set,
            &configs,
        )?;
        let listen = listen.unwrap_or_else(|| default("--listen", LISTEN_DEFAULT));
        let listen = quantities::address(&listen.text).map_err(|why| listen.refused(why))?;
        let advertise = self.place(
            "advertise",
            self.given.advertise.clone(),
            "advertised.listeners",
            &set,
            &configs,
        )?;
        let advertise = advertise.map(|value| advertised(&value)).transpose()?;
        let admin = self.own("admin", self.given.admin.clone())?;
        let admin = admin.unwrap_or_else(|| default("--admin", ADMIN_DEFAULT));
        let admin = match admin.text.trim() {
            "off" => None,
            text => Some(
                quantities::address(text).map_err(|why| admin.refused(format!("{why}, or off")))?,
            ),
        };
        let cpus = match self.own("cores", self.given.cores.clone())? {
            Some(value) => {
                quantities::cpus(&value.text, &machine.cpus).map_err(|why| value.refused(why))?
            }
            None => machine.cpus.clone(),
        };
        let memory_bytes = self.memory(cpus.len() as u64, machine)?;
        let reserve_bytes = match self.own("reserve", self.given.reserve.clone())? {
            None => None,
            Some(value) => Some(quantities::bytes(&value.text).map_err(|why| value.refused(why))?),
        };
        let hand_over = self.yes_or_no("hand-over", self.given.hand_over, true)?;
        let listen_per_core =
            self.yes_or_no("listen-per-core", self.given.listen_per_core, false)?;
        let options = Options {
            data_directories,
            listen,
            advertise,
            admin,
            cpus,
            memory_bytes,
            reserve_bytes,
            hand_over,
            listen_per_core,
            configs: Arc::new(configs),
        };
        Ok((options, self.warnings))
    }

    /// The configs of `--set`.
    fn set(&mut self) -> Result<StaticConfigs, Refused> {
        let mut configs = StaticConfigs::new();
        for item in std::mem::take(&mut self.given.set) {
            let Some((name, value)) = item.split_once('=') else {
                return Err(Refused(format!(
                    "--set {item}: KEY=VALUE is wanted, such as log.retention.hours=24"
                )));
            };
            self.take(name.trim(), value, "--set", &mut configs)?;
        }
        Ok(configs)
    }

    /// The Kafka configs of the file.
    fn file_configs(&mut self) -> Result<StaticConfigs, Refused> {
        let mut configs = StaticConfigs::new();
        for (name, value) in std::mem::take(&mut self.said.kafka) {
            self.take(&name, &value, "the config file", &mut configs)?;
        }
        Ok(configs)
    }

    /// Notes a Kafka config if it has a known name; warns of one that has not.
    fn take(
        &mut self,
        name: &str,
        value: &str,
        source: &str,
        configs: &mut StaticConfigs,
    ) -> Result<(), Refused> {
        let Some(row) = broker_config(name) else {
            let in_file = source != "--set";
            let own = || nearest(&name.replace('_', "-"), OWN.into_iter());
            let near = in_file
                .then(own)
                .flatten()
                .or_else(|| nearest_broker_config(name));
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            self.warnings.push(format!(
                "unknown key {name} in {source} is passed over{hint}"
            ));
            return Ok(());
        };
        parse_broker(name, value).map_err(|error| Refused(format!("{source}: {error}")))?;
        configs.insert(row.name.to_owned(), value.trim().to_owned());
        Ok(())
    }

    /// The value of a flag, or of the file's key of its name.
    fn own(&self, name: &'static str, flag: Option<String>) -> Result<Option<Value>, Refused> {
        if let Some(text) = flag {
            let source = format!("--{name}");
            return Ok(Some(Value { source, text }));
        }
        let Some(texts) = self.said.own.get(name) else {
            return Ok(None);
        };
        let value = Value {
            source: format!("{name} in the config file"),
            text: texts.join(","),
        };
        match texts.len() {
            1 => Ok(Some(value)),
            _ if name == "cores" => Ok(Some(value)),
            _ => Err(value.refused("one value is wanted, not a list")),
        }
    }

    fn yes_or_no(
        &self,
        name: &'static str,
        flag: Option<bool>,
        default: bool,
    ) -> Result<bool, Refused> {
        match self.own(name, flag.map(|yes| yes.to_string()))? {
            None => Ok(default),
            Some(value) => value
                .text
                .trim()
                .parse()
                .map_err(|_| value.refused("true or false is wanted")),
        }
    }

    /// A `HOST:PORT` that has a flag and a Kafka name.
    fn place(
        &mut self,
        name: &'static str,
        flag: Option<String>,
        kafka: &str,
        set: &StaticConfigs,
        configs: &StaticConfigs,
    ) -> Result<Option<Value>, Refused> {
        let own = self.own(name, flag.clone())?;
        let kafka_wins = flag.is_none() && (own.is_none() || set.contains_key(kafka));
        let Some(text) = configs
            .get(kafka)
            .filter(|text| kafka_wins && !text.is_empty())
        else {
            return Ok(own);
        };
        let source = kafka.to_owned();
        let value = Value {
            source,
            text: text.clone(),
        };
        let place = listeners::only(kafka, text, configs, &mut self.warnings)
            .map_err(|why| value.refused(why))?;
        Ok(Some(Value {
            text: place,
            ..value
        }))
    }

    fn data_directories(&self, set: &StaticConfigs, file: &StaticConfigs) -> Vec<PathBuf> {
        if !self.given.data_dir.is_empty() {
            return self.given.data_dir.clone();
        }
        let kafka = |configs: &StaticConfigs| {
            let text = configs.get("log.dirs").or_else(|| configs.get("log.dir"))?;
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Some(items.map(PathBuf::from).collect::<Vec<_>>()).filter(|paths| !paths.is_empty())
        };
        let own = || {
            let texts = self.said.own.get("data-dir")?;
            Some(texts.iter().map(PathBuf::from).collect::<Vec<_>>()).filter(|all| !all.is_empty())
        };
        kafka(set)
            .or_else(own)
            .or_else(|| kafka(file))
            .unwrap_or_else(|| vec![PathBuf::from(DATA_DIRECTORY_DEFAULT)])
    }

    fn memory(&self, cores: u64, machine: &Machine) -> Result<u64, Refused> {
        let least = MEMORY_PER_CORE_MIN * cores;
        let Some(value) = self.own("memory", self.given.memory.clone())? else {
            let quarter = machine.memory_bytes.unwrap_or(1 << 30) / 4;
            return Ok(quarter.min(MEMORY_PER_CORE_DEFAULT_MAX * cores).max(least));
        };
        let bytes = quantities::bytes(&value.text).map_err(|why| value.refused(why))?;
        let most = machine.memory_bytes.unwrap_or(u64::MAX);
        if bytes < least || bytes > most {
            return Err(value.refused(format!(
                "from {} ({} a core) to {} (the memory of this machine) can be given",
                quantities::shown(least),
                quantities::shown(MEMORY_PER_CORE_MIN),
                quantities::shown(most)
            )));
        }
        Ok(bytes)
    }
}

fn default(source: &str, text: &str) -> Value {
    Value {
        source: source.to_owned(),
        text: text.to_owned(),
    }
}

fn advertised(value: &Value) -> Result<(String, u16), Refused> {
    let (host, port) = quantities::host_and_port(&value.text).map_err(|why| value.refused(why))?;
    if matches!(host.as_str(), "" | "0.0.0.0" | "::") {
        return Err(value.refused("clients need a host that they can connect to"));
    }
    Ok((host, port))
}
