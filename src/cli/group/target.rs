//! Where a group's offsets are set to, and which partitions: the words of `--to` and `--topic`.

use std::str::FromStr;

use super::super::start::milliseconds;

/// Where committed offsets are set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first record there is.
    Earliest,
    /// What comes from now on.
    Latest,
    /// This offset.
    Offset(i64),
    /// So many on from the committed offset; back if negative.
    Shift(i64),
    /// The first record that is not older, in milliseconds since the Unix epoch.
    Time(i64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let wanted = "earliest, latest, an offset (42), a shift (+100 or -100), or a time \
                      (2026-01-31T09:00:00Z, or @MILLISECONDS since 1970) is wanted";
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i64>().ok().filter(|_| digits)
        };
        let found = match text {
            "earliest" => Some(Target::Earliest),
            "latest" => Some(Target::Latest),
            _ => match text.split_at_checked(1) {
                Some(("@", rest)) => number(rest).map(Target::Time),
                Some(("+", rest)) => number(rest).map(Target::Shift),
                Some(("-", rest)) => number(rest).map(|back| Target::Shift(-back)),
                _ => number(text)
                    .map(Target::Offset)
                    .or_else(|| milliseconds(text).map(Target::Time)),
            },
        };
        found.ok_or_else(|| wanted.to_owned())
    }
}

/// A topic, or some of its partitions: `orders`, `orders:0,1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The topic.
    pub topic: String,
    /// The partitions; all of them if there are none.
    pub partitions: Vec<i32>,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        let (topic, partitions) = match text.split_once(':') {
            Some((topic, partitions)) => (topic, Some(partitions)),
            None => (text, None),
        };
        let number = |text: &str| text.parse::<i32>().ok().filter(|number| *number >= 0);
        let partitions: Option<Vec<i32>> = match partitions {
            Some(partitions) => partitions.split(',').map(number).collect(),
            None => Some(Vec::new()),
        };
        match partitions {
            Some(partitions) if !topic.is_empty() => Ok(Scope {
                topic: topic.to_owned(),
                partitions,
            }),
            _ => Err("TOPIC or TOPIC:PARTITION,... is wanted, such as orders:0,1".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_an_offset_a_shift_or_a_time() {
        for (text, target) in [
            ("earliest", Target::Earliest),
            ("latest", Target::Latest),
            ("42", Target::Offset(42)),
            ("+10", Target::Shift(10)),
            ("-10", Target::Shift(-10)),
            ("@1700000000000", Target::Time(1_700_000_000_000)),
            ("1970-01-02", Target::Time(86_400_000)),
        ] {
            assert_eq!(text.parse(), Ok(target), "{text}");
        }
        for wrong in ["", "now", "+", "-", "--1", "+-1", "@-1", "@", "1.5"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_scope_is_a_topic_and_perhaps_partitions() {
        let scope = |topic: &str, partitions: &[i32]| Scope {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        };
        assert_eq!("orders".parse(), Ok(scope("orders", &[])));
        assert_eq!("orders:0,2".parse(), Ok(scope("orders", &[0, 2])));
        for wrong in ["", ":1", "orders:", "orders:-1", "orders:a"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
    }
}
