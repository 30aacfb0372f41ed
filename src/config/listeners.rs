//! Kafka's `listeners` and `advertised.listeners`: `NAME://HOST:PORT`, between commas. There is one
//! listener here, and it speaks plaintext; what else a Kafka file lists is told to the person.

use crate::cluster::configs::StaticConfigs;

/// The `HOST:PORT` of the one listener for clients in `text`, the value of the config `name`; the
/// controller's listeners, which a broker alone does not need, are passed over with a warning.
pub(super) fn only(
    name: &str,
    text: &str,
    configs: &StaticConfigs,
    warnings: &mut Vec<String>,
) -> Result<String, String> {
    let controllers = items(configs.get("controller.listener.names"));
    let mut found = None;
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (listener, place) = item
            .split_once("://")
            .ok_or_else(|| "NAME://HOST:PORT is wanted, such as PLAINTEXT://:9092".to_owned())?;
        if controllers
            .iter()
            .any(|name| name.eq_ignore_ascii_case(listener))
        {
            warnings.push(format!(
                "{name}: {item} is passed over: the controller needs no listener of its own"
            ));
            continue;
        }
        let protocol = protocol(listener, configs);
        if !protocol.eq_ignore_ascii_case("PLAINTEXT") {
            return Err(format!(
                "{listener} speaks {protocol}, but only PLAINTEXT is available"
            ));
        }
        if found.replace(place.to_owned()).is_some() {
            return Err("only one listener is available".to_owned());
        }
    }
    found.ok_or_else(|| "a listener for clients is missing".to_owned())
}

fn items(text: Option<&String>) -> Vec<&str> {
    let text = text.map_or("", String::as_str);
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

/// What the listener speaks: `listener.security.protocol.map` says, or its own name.
fn protocol<'a>(listener: &'a str, configs: &'a StaticConfigs) -> &'a str {
    items(configs.get("listener.security.protocol.map"))
        .into_iter()
        .filter_map(|item| item.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case(listener))
        .map_or(listener, |(_, protocol)| protocol.trim())
}
