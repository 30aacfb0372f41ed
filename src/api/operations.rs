//! The operations that a client is told it may do, where it asks: without an authoriser all that
//! the resource knows, as bits by Kafka's operation codes (KIP-430; apache/kafka
//! `AclEntry.supportedOperations`).

/// "Not asked for" in every reply that has the field.
pub(crate) const NOT_ASKED: i32 = i32::MIN;

/// Read 3, write 4, create 5, delete 6, alter 7, describe 8, describe configs 10, alter configs 11.
pub(crate) const TOPIC: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);

/// Read 3, delete 6, describe 8, describe configs 10, alter configs 11.
pub(crate) const GROUP: i32 = bits(&[3, 6, 8, 10, 11]);

/// Create 5, alter 7, describe 8, cluster action 9, describe configs 10, alter configs 11,
/// idempotent write 12.
pub(crate) const CLUSTER: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

const fn bits(codes: &[u32]) -> i32 {
    let (mut all, mut at) = (0, 0);
    while at < codes.len() {
        all |= 1 << codes[at];
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_bits_by_kafkas_codes() {
        assert_eq!(TOPIC, 0b1101_1111_1000);
        assert_eq!(GROUP, 0b1101_0100_1000);
        assert_eq!(CLUSTER, 0b1_1111_1010_0000);
    }
}
