//! The TOML file. Keys are the flags' names; Kafka's names stand at the top level or in a table
//! `[kafka]`, quoted or not: dots make tables in TOML, and tables are read back as dots.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::Refused;

/// The keys that have a flag's name.
pub(super) const OWN: [&str; 9] = [
    "data-dir",
    "listen",
    "advertise",
    "admin",
    "cores",
    "memory",
    "reserve",
    "hand-over",
    "listen-per-core",
];

/// What a file says, by key; values as text, lists with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The keys of [`OWN`]. `data-dir` may have several values, the others have one.
    pub own: BTreeMap<&'static str, Vec<String>>,
    /// All other keys: Kafka's names, or mistakes.
    pub kafka: BTreeMap<String, String>,
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Said, Refused> {
    let refused = |why: String| {
        Refused(format!(
            "config file {} cannot be used: {why}",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    parse(&text).map_err(refused)
}

/// Reads a file's contents. The error is one line.
pub(super) fn parse(text: &str) -> Result<Said, String> {
    let table: Table = text.parse().map_err(|error| syntax(text, &error))?;
    let mut flat = Vec::new();
    flatten("", &table, &mut flat);
    let mut said = Said::default();
    for (name, value) in flat {
        match OWN.iter().find(|own| **own == name) {
            Some(own) => drop(said.own.insert(*own, texts(&name, value)?)),
            None => {
                let name = name.strip_prefix("kafka.").unwrap_or(&name).to_owned();
                let value = texts(&name, value)?.join(",");
                if said.kafka.insert(name.clone(), value).is_some() {
                    return Err(format!("{name} is set twice, in and outside of [kafka]"));
                }
            }
        }
    }
    Ok(said)
}

fn flatten<'a>(prefix: &str, table: &'a Table, out: &mut Vec<(String, &'a Value)>) {
    for (key, value) in table {
        let name = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(&format!("{name}."), inner, out),
            value => out.push((name, value)),
        }
    }
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| text(name, item));
            items.collect()
        }
        value => Ok(vec![text(name, value)?]),
    }
}

fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(yes) => Ok(yes.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => Err(format!(
            "{name} is neither a text, a number, true or false, nor a list of those"
        )),
    }
}

/// The parser's message in one line, with the line it is about.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}
