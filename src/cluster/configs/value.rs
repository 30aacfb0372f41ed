//! Reading a config's value by its row's type and rule (apache/kafka `ConfigDef.parseType`).

use std::fmt;

use super::{Definition, Kind, Rule};

/// A value that follows its rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A boolean.
    Boolean(bool),
    /// A whole number of 16, 32 or 64 bits.
    Number(i64),
    /// A floating-point number.
    Double(f64),
    /// A text, a class or a password.
    Text(String),
    /// The items of a list; the empty text is the empty list.
    List(Vec<String>),
}

/// A config that was refused, with the reason as a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The config.
    pub name: String,
    /// The value that was asked for.
    pub value: String,
    /// Why not, as a sentence.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for ConfigError {}

/// Reads `text` by the rules of `row`. White space around it does not count, except in passwords.
pub fn parse_value(row: &Definition, text: &str) -> Result<Value, ConfigError> {
    let refused = |why: String| {
        let shown = if row.is_sensitive() {
            "[hidden]".into()
        } else {
            shortened(text)
        };
        let name = row.name;
        let why = format!("Invalid value {shown} for configuration {name}: {why}");
        ConfigError {
            name: name.to_owned(),
            value: text.to_owned(),
            why,
        }
    };
    let value = typed(row.kind, text).map_err(refused)?;
    check(row.rule, &value).map_err(refused)?;
    Ok(value)
}

fn typed(kind: Kind, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    let number = |least: i64, most: i64, what: &str| match trimmed.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
        _ => Err(format!("Not a number of type {what}")),
    };
    match kind {
        Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
        Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
        Kind::Boolean => Err("Expected value to be either true or false".to_owned()),
        Kind::Short => number(i16::MIN.into(), i16::MAX.into(), "SHORT"),
        Kind::Int => number(i32::MIN.into(), i32::MAX.into(), "INT"),
        Kind::Long => number(i64::MIN, i64::MAX, "LONG"),
        Kind::Double => {
            let number = trimmed.parse().map(Value::Double);
            number.map_err(|_| "Not a number of type DOUBLE".to_owned())
        }
        Kind::List if trimmed.is_empty() => Ok(Value::List(Vec::new())),
        Kind::List => {
            let items = trimmed.split(',').map(|item| item.trim().to_owned());
            Ok(Value::List(items.collect()))
        }
        Kind::String | Kind::Class => Ok(Value::Text(trimmed.to_owned())),
        Kind::Password => Ok(Value::Text(text.to_owned())),
    }
}

fn check(rule: Rule, value: &Value) -> Result<(), String> {
    match (rule, value) {
        (Rule::AtLeast(least), Value::Number(number)) if *number < least => {
            Err(format!("Value must be at least {least}"))
        }
        (Rule::Between(least, most), Value::Number(number)) => range(*number, least, most),
        (Rule::BetweenOrDefault(least, most), Value::Number(number)) if *number != -1 => {
            range(*number, least, most).map_err(|why| format!("{why}, or -1 for the default"))
        }
        (Rule::BetweenDouble(least, most), Value::Double(number))
            if !(least..=most).contains(number) =>
        {
            Err(format!("Value must be between {least} and {most}"))
        }
        (Rule::OneOf(words), Value::Text(text)) if !words.contains(&text.as_str()) => {
            Err(format!("String must be one of: {}", words.join(", ")))
        }
        (Rule::OneOfAnyCase(words), Value::Text(text))
            if !words.iter().any(|word| word.eq_ignore_ascii_case(text)) =>
        {
            Err(format!(
                "String must be one of (case insensitive): {}",
                words.join(", ")
            ))
        }
        (Rule::EachOf(words), Value::List(items)) => {
            let wrong = items.iter().any(|item| !words.contains(&item.as_str()));
            let why = format!("each item must be one of: {}", words.join(", "));
            if wrong { Err(why) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn range(number: i64, least: i64, most: i64) -> Result<(), String> {
    if (least..=most).contains(&number) {
        return Ok(());
    }
    Err(format!("Value must be between {least} and {most}"))
}

/// At most 100 characters of a text that a client sent, for messages.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Levenshtein's distance in bytes.
pub(super) fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}
