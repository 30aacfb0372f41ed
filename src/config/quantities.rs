//! CPUs, sizes and addresses as a person writes them.

use std::net::{SocketAddr, ToSocketAddrs};

/// The CPUs that `text` chooses among `available`: how many of them (`4`), or which (`0,2-3`). A
/// single one is chosen as `2-2`.
pub(super) fn cpus(text: &str, available: &[usize]) -> Result<Vec<usize>, String> {
    let text = text.trim();
    if let Ok(count) = text.parse::<usize>() {
        if count == 0 || count > available.len() {
            return Err(format!(
                "this process may run on 1 to {} CPUs",
                available.len()
            ));
        }
        return Ok(available[..count].to_vec());
    }
    let mut chosen = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let number = |text: &str| {
            let wrong = || "a number of CPUs (4) or a list of them (0,2-3) is wanted".to_owned();
            text.trim().parse::<usize>().map_err(|_| wrong())
        };
        let (first, last) = (number(first)?, number(last)?);
        let known = |cpu: &usize| available.contains(cpu);
        // Ends first: a range is not walked before it is known to be short.
        if first > last || !known(&first) || !known(&last) {
            return Err(none_of(item, available));
        }
        for cpu in first..=last {
            if !known(&cpu) {
                return Err(none_of(&cpu.to_string(), available));
            }
            if chosen.contains(&cpu) {
                return Err(format!("CPU {cpu} is named twice"));
            }
            chosen.push(cpu);
        }
    }
    Ok(chosen)
}

fn none_of(item: &str, available: &[usize]) -> String {
    let names: Vec<String> = available.iter().map(usize::to_string).collect();
    let item = item.trim();
    format!(
        "{item} is not among the CPUs that this process may run on ({})",
        names.join(",")
    )
}

/// Bytes: a number with an optional unit. `K`, `M`, `G`, `T` and `KiB` and so on are powers of
/// 1024, `KB` and so on powers of 1000.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "bytes with a unit are wanted, such as 512MiB or 2G".to_owned();
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let (power, base) = match unit.as_str() {
        "" | "b" => (0, 1024u64),
        "k" | "kib" => (1, 1024),
        "m" | "mib" => (2, 1024),
        "g" | "gib" => (3, 1024),
        "t" | "tib" => (4, 1024),
        "kb" => (1, 1000),
        "mb" => (2, 1000),
        "gb" => (3, 1000),
        "tb" => (4, 1000),
        _ => return Err(wrong()),
    };
    number
        .checked_mul(base.pow(power))
        .ok_or_else(|| "that is more than there can be".to_owned())
}

/// Bytes as [`bytes`] reads them, exact where a unit divides them.
pub(super) fn shown(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match exact {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Host and port; an IPv6 address in brackets; an empty host is the empty text.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || "HOST:PORT is wanted, the port from 0 to 65535".to_owned();
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains([':', '/', '[', ']', ' ']) {
        return Err(wrong());
    }
    Ok((bare.unwrap_or(host).to_owned(), port))
}

/// An address to listen on: host names are looked up, an empty host is every address of the
/// machine.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = host_and_port(text)?;
    let host = if host.is_empty() { "0.0.0.0" } else { &host };
    let mut found = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("{host} cannot be looked up: {error}"))?;
    found.next().ok_or_else(|| format!("{host} has no address"))
}
