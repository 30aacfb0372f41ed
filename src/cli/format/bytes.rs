//! Bytes as hexadecimal digits, as base64, and with escapes.

use super::Separator;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn to_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
}

pub(super) fn to_base64(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let six = bits >> (18 - 6 * at) & 63;
            out.push(if at > chunk.len() {
                b'='
            } else {
                ALPHABET[six as usize]
            });
        }
    }
}

pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let (quads, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(quads.len() * 3);
    for (at, quad) in quads.iter().enumerate() {
        let padding = quad.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 < quads.len()) {
            return None;
        }
        let mut bits = 0;
        for byte in &quad[..4 - padding] {
            let six = ALPHABET.iter().position(|letter| letter == byte)?;
            bits = bits << 6 | six as u32;
        }
        bits <<= 6 * padding;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

/// Reads `\t`, `\n`, `\0`, `\\` and `\xNN`.
pub(super) fn unescape(text: &str) -> Result<Separator, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, length) = match rest {
            [b't', ..] => (b'\t', 1),
            [b'n', ..] => (b'\n', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] => match from_hex(&[*high, *low]) {
                Some(byte) => (byte[0], 3),
                None => return Err("\\x wants two hexadecimal digits".to_owned()),
            },
            _ => return Err("only \\t, \\n, \\0, \\\\ and \\xNN are understood".to_owned()),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    if bytes.is_empty() {
        return Err("an empty separator separates nothing".to_owned());
    }
    Ok(Separator(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648s() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (plain, encoded) in cases {
            let mut out = Vec::new();
            to_base64(plain.as_bytes(), &mut out);
            assert_eq!(out, encoded.as_bytes());
            assert_eq!(
                from_base64(encoded.as_bytes()).as_deref(),
                Some(plain.as_bytes())
            );
        }
        for wrong in ["Z", "Zg=", "Z===", "Zg==Zg==", "Zg=a", "Z!=="] {
            assert_eq!(from_base64(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape("\\t"), Ok(Separator(b"\t".to_vec())));
        assert_eq!(unescape("a\\x1fb\\\\"), Ok(Separator(b"a\x1fb\\".to_vec())));
        assert!(unescape("").is_err() && unescape("\\q").is_err() && unescape("\\x1").is_err());
    }
}
