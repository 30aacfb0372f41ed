//! Records as lines of text, in both directions: what `consume` writes, `produce` reads.
//!
//! ```text
//! text, hex, base64   [headers SEPARATOR] [key SEPARATOR] value
//!                     headers: name=value,name=value
//! json                {"partition":0,"offset":7,"timestamp":1700000000000,
//!                      "key":"k","value":"v","headers":[["name","value"]]}
//! ```
//!
//! In JSON, bytes that are not UTF-8 stand as `{"base64":"..."}`. Knows no socket and no terminal.

mod bytes;
mod json;

pub use json::write as write_json;

use clap::{Args, ValueEnum};

/// How keys and values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    // Docs here would make every help page twice as long: the module has them.
    Text,
    Json,
    Hex,
    Base64,
}

/// What a line holds.
#[derive(Args, Clone, Debug)]
pub struct Layout {
    /// How keys and values are written; json is one object a record
    #[arg(
        long,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Lines"
    )]
    pub format: Format,

    /// Lines have a key before the value
    #[arg(short, long, help_heading = "Lines")]
    pub keys: bool,

    /// Lines begin with headers: name=value,name=value
    #[arg(long = "headers", help_heading = "Lines")]
    pub with_headers: bool,

    /// What stands between headers, key and value; \t, \0, \\ and \xNN are understood
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "\\t",
        value_parser = bytes::unescape,
        help_heading = "Lines"
    )]
    pub separator: Separator,

    /// The word for a value or key that is null (a tombstone), which is not the same as an empty one
    #[arg(long, value_name = "WORD", help_heading = "Lines")]
    pub null: Option<String>,
}

/// The bytes between two fields, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separator(Vec<u8>);

/// A header: name, and value if it has one.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its partition; where it belongs by its key if none.
    pub partition: Option<i32>,
    /// Its offset, for a record that was read.
    pub offset: Option<i64>,
    /// Milliseconds since the Unix epoch; now if none.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

impl Layout {
    /// Reads a line, without its line feed. The error says what is wrong with it.
    pub fn parse(&self, line: &[u8]) -> Result<Item, String> {
        if self.format == Format::Json {
            return json::parse(line);
        }
        let mut item = Item::default();
        let mut rest = line;
        if self.with_headers {
            let headers;
            (headers, rest) = self.cut(rest, "headers")?;
            item.headers = parse_headers(headers);
        }
        if self.keys {
            let key;
            (key, rest) = self.cut(rest, "a key")?;
            item.key = self.field(key)?;
        }
        item.value = self.field(rest)?;
        Ok(item)
    }

    fn cut<'a>(&self, line: &'a [u8], what: &str) -> Result<(&'a [u8], &'a [u8]), String> {
        let separator = &self.separator.0[..];
        let at = line
            .windows(separator.len())
            .position(|window| window == separator);
        let shown = String::from_utf8_lossy(separator);
        let at = at.ok_or_else(|| format!("no separator ({shown:?}) ends {what} here"))?;
        Ok((&line[..at], &line[at + separator.len()..]))
    }

    fn field(&self, text: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if self
            .null
            .as_ref()
            .is_some_and(|null| null.as_bytes() == text)
        {
            return Ok(None);
        }
        let decoded = match self.format {
            Format::Text | Format::Json => Some(text.to_vec()),
            Format::Hex => bytes::from_hex(text),
            Format::Base64 => bytes::from_base64(text),
        };
        let shown = || {
            String::from_utf8_lossy(text)
                .chars()
                .take(60)
                .collect::<String>()
        };
        decoded
            .map(Some)
            .ok_or_else(|| format!("{:?} is not {}", shown(), self.name()))
    }

    fn name(&self) -> &'static str {
        match self.format {
            Format::Text => "text",
            Format::Json => "JSON",
            Format::Hex => "hexadecimal",
            Format::Base64 => "base64",
        }
    }

    /// Writes a line with its line feed.
    pub fn write(&self, item: &Item, out: &mut Vec<u8>) {
        if self.format == Format::Json {
            return json::write(item, out);
        }
        if self.with_headers {
            write_headers(&item.headers, out);
            out.extend_from_slice(&self.separator.0);
        }
        if self.keys {
            self.write_field(item.key.as_deref(), out);
            out.extend_from_slice(&self.separator.0);
        }
        self.write_field(item.value.as_deref(), out);
        out.push(b'\n');
    }

    fn write_field(&self, field: Option<&[u8]>, out: &mut Vec<u8>) {
        match (field, self.format) {
            (None, _) => out.extend_from_slice(self.null.as_deref().unwrap_or("").as_bytes()),
            (Some(field), Format::Text | Format::Json) => out.extend_from_slice(field),
            (Some(field), Format::Hex) => bytes::to_hex(field, out),
            (Some(field), Format::Base64) => bytes::to_base64(field, out),
        }
    }
}

/// Headers between commas: `name=value`, or a bare name for a null value.
fn parse_headers(text: &[u8]) -> Vec<Header> {
    let items = text
        .split(|byte| *byte == b',')
        .filter(|item| !item.is_empty());
    items.map(parse_header).collect()
}

/// One header.
pub fn parse_header(text: &[u8]) -> Header {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (text[..at].to_vec(), Some(text[at + 1..].to_vec())),
        None => (text.to_vec(), None),
    }
}

fn write_headers(headers: &[Header], out: &mut Vec<u8>) {
    for (at, (name, value)) in headers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: Format) -> Layout {
        Layout {
            format,
            keys: true,
            with_headers: format != Format::Json,
            separator: Separator(b"::".to_vec()),
            null: Some("NULL".to_owned()),
        }
    }

    #[test]
    fn what_is_written_reads_back_in_every_format() {
        let item = Item {
            key: Some(b"k\xff".to_vec()),
            value: None,
            headers: vec![(b"a".to_vec(), Some(b"1".to_vec())), (b"b".to_vec(), None)],
            ..Item::default()
        };
        for format in [Format::Text, Format::Json, Format::Hex, Format::Base64] {
            let mut line = Vec::new();
            layout(format).write(&item, &mut line);
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(layout(format).parse(&line), Ok(item.clone()), "{format:?}");
        }
    }

    #[test]
    fn a_line_is_headers_key_and_value() {
        let text = layout(Format::Text);
        let item = text
            .parse(b"a=1,b::key::value::with separator")
            .expect("a record");
        assert_eq!(item.headers.len(), 2);
        assert_eq!(item.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(item.value.as_deref(), Some(&b"value::with separator"[..]));
        assert_eq!(text.parse(b"::k::NULL").expect("a tombstone").value, None);
        assert!(text.parse(b"nothing").is_err());
        assert!(layout(Format::Hex).parse(b"::0g::00").is_err());
    }
}
