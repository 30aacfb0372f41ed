//! The rules of topic names (apache/kafka `Topic`).

/// The longest name, in bytes: with `-` and a partition number it must fit into a file name.
const LENGTH_MAX: usize = 249;

/// Topics that the broker makes for itself.
pub const INTERNAL: [&str; 3] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

/// The topic of the metadata log: no client may make one of this name.
pub const METADATA: &str = "__cluster_metadata";

/// True for the topics of [`INTERNAL`].
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Why `name` cannot be a topic's name; none if it can.
pub fn refusal(name: &str) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    // The words are Kafka's: tools and people know them.
    let why = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        METADATA => format!("'{METADATA}' is the broker's own"),
        name if name.len() > LENGTH_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {LENGTH_MAX}")
        }
        name if !name.bytes().all(legal) => format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
        _ => return None,
    };
    Some(format!("Topic name is invalid: {why}"))
}

/// What a name looks like where `.` and `_` are the same, as in metrics; none for a name without
/// either, which cannot be mistaken for another.
pub(super) fn looks(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_nothing_else() {
        for good in [
            "a",
            "A.b_c-9",
            "...",
            "-",
            "__consumer_offsets",
            &"x".repeat(249),
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
        let bad = [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "ü",
            "a\0",
            &"x".repeat(250),
            "__cluster_metadata",
        ];
        for bad in bad {
            assert!(refusal(bad).is_some(), "{bad:?}");
        }
    }
}
