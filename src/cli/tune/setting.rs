//! Settings of the machine that are files: read as `tuning/*.toml` says. The data has the reasons.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::Failed;

/// The profiles, as they are in the repository.
const PROFILES: [&str; 5] = [
    include_str!("../../../tuning/disk.toml"),
    include_str!("../../../tuning/memory.toml"),
    include_str!("../../../tuning/cpu.toml"),
    include_str!("../../../tuning/network.toml"),
    include_str!("../../../tuning/process.toml"),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    setting: Vec<Setting>,
}

/// How a file says its value.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Form {
    /// A number.
    Number,
    /// A word, the whole line.
    Word,
    /// The word in brackets, of several.
    Chosen,
}

/// One setting, as in `tuning/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    name: String,
    /// With `{queue}`, `{disk}`, `{cpu}` to be filled in.
    path: String,
    form: Form,
    /// Any of these words is good; the first is what is set.
    #[serde(default)]
    want: Vec<String>,
    /// A number is good from here on.
    least: Option<i64>,
    /// A number is good up to here.
    most: Option<i64>,
    /// What a bad value costs: latency, throughput, safety, insight.
    costs: String,
    /// True if it may be set while the machine runs, and set back.
    safe: bool,
    /// What to do where it is not a matter of writing to the file.
    mend: Option<String>,
    why: String,
    /// What it cost on a machine where it was measured: how, before and after.
    measured: Option<String>,
}

/// Whether a setting is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Good,
    Bad,
    /// This machine does not have it.
    Absent,
}

/// A setting as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) value: String,
    pub(super) wanted: String,
    pub(super) costs: String,
    pub(super) why: String,
    /// A figure before and after, where there is one.
    pub(super) measured: Option<String>,
    /// The command, or what else to do.
    pub(super) mend: String,
    /// True if `--apply` may set it.
    pub(super) is_safe: bool,
    /// Files and what is to be written to them.
    pub(super) writes: Vec<(PathBuf, String)>,
}

/// The disk under the data directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Its queue directory below /sys.
    pub(super) queue: Option<String>,
    /// Its name.
    pub(super) disk: Option<String>,
}

impl Place {
    /// The disk under `directory`, or under the closest directory above it that exists.
    pub(super) fn of(directory: &Path) -> Result<Place, Failed> {
        let mut existing = directory;
        while !existing.exists() {
            existing = match existing.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
        }
        let queue = crate::rt::device::queue_of(existing).map_err(|error| {
            Failed::usage(format!("--data-dir {}: {error}", directory.display()))
        })?;
        let inside = |path: &Path| {
            let inside = path.strip_prefix("/sys").ok()?.to_str()?;
            Some(format!("/{inside}"))
        };
        let disk = queue
            .as_deref()
            .and_then(|queue| queue.parent()?.file_name()?.to_str());
        Ok(Place {
            disk: disk.map(str::to_owned),
            queue: queue.as_deref().and_then(inside),
        })
    }
}

/// All settings of the profiles, as they are below `root`.
pub(super) fn look(root: &Path, place: &Place) -> Vec<Found> {
    settings()
        .iter()
        .map(|setting| setting.look(root, place))
        .collect()
}

fn settings() -> Vec<Setting> {
    let parse =
        |text: &str| toml::from_str::<Profile>(text).expect("a profile that a test has read");
    PROFILES
        .iter()
        .flat_map(|text| parse(text).setting)
        .collect()
}

impl Setting {
    fn look(&self, root: &Path, place: &Place) -> Found {
        let mut values = Vec::new();
        let mut writes = Vec::new();
        for path in self.paths(root, place) {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let value = self.value(text.trim());
            if !self.is_good(&value) {
                writes.push((path, self.target()));
            }
            values.push(value);
        }
        let state = match (values.is_empty(), writes.is_empty()) {
            (true, _) => State::Absent,
            (_, true) => State::Good,
            _ => State::Bad,
        };
        values.sort();
        values.dedup();
        let commands = writes
            .iter()
            .map(|(path, value)| format!("echo {value} | sudo tee {}", path.display()));
        let commands: Vec<_> = commands.take(2).collect();
        let more = if writes.len() > 2 {
            "  (and so for each)"
        } else {
            ""
        };
        Found {
            name: self.name.clone(),
            state,
            value: values.join(", "),
            wanted: self.wanted(),
            costs: self.costs.clone(),
            why: self.why.clone(),
            measured: self.measured.clone(),
            mend: match &self.mend {
                Some(words) => words.clone(),
                None => format!("{}{more}", commands.join("; ")),
            },
            is_safe: self.safe && self.mend.is_none(),
            writes,
        }
    }

    /// The files: one, or one for each CPU.
    fn paths(&self, root: &Path, place: &Place) -> Vec<PathBuf> {
        let mut path = self.path.clone();
        for (mark, value) in [("{queue}", &place.queue), ("{disk}", &place.disk)] {
            if path.contains(mark) {
                let Some(value) = value else {
                    return Vec::new();
                };
                path = path.replace(mark, value);
            }
        }
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        if !path.contains("{cpu}") {
            return vec![below(&path)];
        }
        let cpus = crate::rt::limits::cpus().into_iter();
        cpus.map(|cpu| below(&path.replace("{cpu}", &cpu.to_string())))
            .collect()
    }

    fn value(&self, text: &str) -> String {
        let chosen = || Some(text.split_once('[')?.1.split_once(']')?.0);
        match self.form {
            Form::Chosen => chosen().unwrap_or(text).to_owned(),
            Form::Word => text.to_owned(),
            Form::Number => text.split_whitespace().next().unwrap_or("").to_owned(),
        }
    }

    fn is_good(&self, value: &str) -> bool {
        if self.form != Form::Number {
            return self.want.iter().any(|want| want == value);
        }
        let Ok(number) = value.parse::<i64>() else {
            return false;
        };
        self.least.is_none_or(|least| number >= least)
            && self.most.is_none_or(|most| number <= most)
    }

    /// What is written to mend it.
    fn target(&self) -> String {
        let number = self.least.or(self.most).map(|number| number.to_string());
        self.want.first().cloned().or(number).unwrap_or_default()
    }

    fn wanted(&self) -> String {
        match (self.least, self.most) {
            (Some(least), _) => format!("{least} or more"),
            (_, Some(0)) => "0".to_owned(),
            (_, Some(most)) => format!("{most} or less"),
            _ => self.want.join(" or "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_says_what_why_and_what_to_do() {
        let all = settings();
        let mut names: Vec<_> = all.iter().map(|setting| setting.name.clone()).collect();
        for setting in &all {
            let has_range = setting.least.is_some() || setting.most.is_some();
            assert_eq!(setting.form == Form::Number, has_range, "{}", setting.name);
            assert_eq!(setting.want.is_empty(), has_range, "{}", setting.name);
            assert!(setting.why.len() > 40, "{}", setting.name);
            assert!(setting.safe || setting.mend.is_some(), "{}", setting.name);
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_machine_is_read_and_what_is_wrong_has_a_command() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        };
        write("proc/sys/vm/swappiness", "60\n");
        write("proc/sys/net/core/somaxconn", "4096\n");
        write(
            "sys/block/nvme0n1/queue/scheduler",
            "mq-deadline [kyber] none\n",
        );
        let place = Place {
            queue: Some("/block/nvme0n1/queue".to_owned()),
            disk: Some("nvme0n1".to_owned()),
        };
        let found = look(root.path(), &place);
        let of = |name: &str| {
            found
                .iter()
                .find(|one| one.name == name)
                .expect("a setting")
        };
        let swappiness = of("memory.swappiness");
        assert_eq!(
            (swappiness.state, swappiness.value.as_str()),
            (State::Bad, "60")
        );
        assert!(
            swappiness.mend.starts_with("echo 1 | sudo tee"),
            "{}",
            swappiness.mend
        );
        assert_eq!(of("network.listen-queue").state, State::Good);
        let scheduler = of("disk.scheduler");
        assert_eq!(
            (scheduler.state, scheduler.value.as_str()),
            (State::Bad, "kyber")
        );
        assert_eq!(scheduler.writes[0].1, "none");
        assert_eq!(of("cpu.clock-source").state, State::Absent);
    }
}
