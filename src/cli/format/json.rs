//! A record as one JSON object.

use serde::{Deserialize, Serialize};

use super::{Item, bytes};

/// Bytes: a text if they are UTF-8.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Data {
    Text(String),
    Base64 { base64: String },
}

/// Headers as they are written, or as a person may find easier.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Headers {
    Pairs(Vec<(String, Option<Data>)>),
    Map(std::collections::BTreeMap<String, Option<Data>>),
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Written by some tools, not needed.
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    #[serde(default)]
    key: Option<Data>,
    #[serde(default)]
    value: Option<Data>,
    #[serde(default)]
    headers: Option<Headers>,
}

fn data(bytes: &[u8]) -> Data {
    match std::str::from_utf8(bytes) {
        Ok(text) => Data::Text(text.to_owned()),
        Err(_) => {
            let mut base64 = Vec::new();
            bytes::to_base64(bytes, &mut base64);
            let base64 = String::from_utf8(base64).unwrap_or_default();
            Data::Base64 { base64 }
        }
    }
}

fn bytes_of(data: Option<Data>) -> Result<Option<Vec<u8>>, String> {
    match data {
        None => Ok(None),
        Some(Data::Text(text)) => Ok(Some(text.into_bytes())),
        Some(Data::Base64 { base64 }) => bytes::from_base64(base64.as_bytes())
            .map(Some)
            .ok_or_else(|| "base64 holds something else".to_owned()),
    }
}

pub(super) fn parse(line: &[u8]) -> Result<Item, String> {
    let record: Record = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let headers: Vec<_> = match record.headers {
        None => Vec::new(),
        Some(Headers::Pairs(pairs)) => pairs,
        Some(Headers::Map(map)) => map.into_iter().collect(),
    };
    let headers = headers
        .into_iter()
        .map(|(name, value)| Ok((name.into_bytes(), bytes_of(value)?)));
    Ok(Item {
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp.filter(|timestamp| *timestamp >= 0),
        key: bytes_of(record.key)?,
        value: bytes_of(record.value)?,
        headers: headers.collect::<Result<_, String>>()?,
    })
}

/// Writes a record as one JSON object with a line feed.
pub fn write(item: &Item, out: &mut Vec<u8>) {
    let headers = item.headers.iter().map(|(name, value)| {
        let name = String::from_utf8_lossy(name).into_owned();
        (name, value.as_deref().map(data))
    });
    let record = Record {
        topic: None,
        partition: item.partition,
        offset: item.offset,
        timestamp: item.timestamp,
        key: item.key.as_deref().map(data),
        value: item.value.as_deref().map(data),
        headers: Some(Headers::Pairs(headers.collect())),
    };
    // Writing plain fields to memory does not fail.
    let line = serde_json::to_vec(&record).unwrap_or_default();
    out.extend_from_slice(&line);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_may_be_pairs_or_a_map_and_unknown_fields_are_refused() {
        let map = parse(br#"{"value":"v","headers":{"a":"1","b":null}}"#).expect("a record");
        let pairs = parse(br#"{"value":"v","headers":[["a","1"],["b",null]]}"#).expect("a record");
        assert_eq!(map, pairs);
        assert!(parse(br#"{"valeu":"v"}"#).is_err());
        assert!(parse(b"text").is_err());
    }
}
