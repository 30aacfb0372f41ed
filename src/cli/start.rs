//! Where to begin reading: `earliest`, `latest`, an offset, the last so many, or a time.

use std::str::FromStr;

/// Where to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record there is.
    Earliest,
    /// What comes from now on.
    Latest,
    /// This offset.
    Offset(i64),
    /// So many before the end, in each partition.
    Last(i64),
    /// The first record that is not older, in milliseconds since the Unix epoch.
    Time(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        let wanted = "earliest, latest, an offset (42), the last so many (-10), or a time \
                      (2026-01-31T09:00:00Z, or @MILLISECONDS since 1970) is wanted";
        let wrong = || wanted.to_owned();
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        if let Some(text) = text.strip_prefix('@') {
            return number(text).map(Start::Time).ok_or_else(wrong);
        }
        if let Some(text) = text.strip_prefix('-') {
            return number(text).map(Start::Last).ok_or_else(wrong);
        }
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => number(text)
                .map(Start::Offset)
                .or_else(|| milliseconds(text).map(Start::Time))
                .ok_or_else(wrong),
        }
    }
}

/// Milliseconds since the Unix epoch of `YYYY-MM-DD`, with or without `THH:MM[:SS[.mmm]]`, `Z` or
/// nothing behind it: all of it is UTC.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let date = numbers(date, '-')?;
    let [year @ 1970..=9999, month @ 1..=12, day] = date[..] else {
        return None;
    };
    if day < 1 || day > days_of(year, month) {
        return None;
    }
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (hour, minute, second) = match numbers(time, ':')?[..] {
        [hour @ 0..=23, minute @ 0..=59] => (hour, minute, 0),
        [hour @ 0..=23, minute @ 0..=59, second @ 0..=59] => (hour, minute, second),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millisecond: i64 = format!("{fraction:0<3}").parse().ok()?;
    let days = (1970..year)
        .map(|year| if is_leap(year) { 366 } else { 365 })
        .sum::<i64>()
        + (1..month).map(|month| days_of(year, month)).sum::<i64>()
        + day
        - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millisecond)
}

fn numbers(text: &str, separator: char) -> Option<Vec<i64>> {
    let digits = |item: &str| !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit());
    let number = |item: &str| item.parse().ok().filter(|_| digits(item));
    text.split(separator).map(number).collect()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_an_offset_a_count_from_the_end_or_a_time() {
        let cases = [
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("42", Start::Offset(42)),
            ("-10", Start::Last(10)),
            ("@1700000000000", Start::Time(1_700_000_000_000)),
            ("1970-01-02", Start::Time(86_400_000)),
            ("2024-02-29T12:34:56.7Z", Start::Time(1_709_210_096_700)),
            ("2023-11-14 22:13", Start::Time(1_699_999_980_000)),
        ];
        for (text, start) in cases {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
        for wrong in [
            "",
            "now",
            "-",
            "--1",
            "@-1",
            "2023-02-29",
            "2024-13-01",
            "2024-01-01T24:00",
        ] {
            assert!(wrong.parse::<Start>().is_err(), "{wrong}");
        }
    }
}
