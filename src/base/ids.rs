//! Numbers that differ in meaning differ in type.

use std::fmt;

/// Declares a newtype over an integer: ordered, hashable, displayed as the bare number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The place of a record in its partition, 0 or greater; -1 means "none" on the wire.
    Offset(i64)
);
number!(
    /// A byte position in a segment file.
    Position(u64)
);
number!(
    /// The term of a partition's leader (KIP-101), 0 or greater; -1 means "unknown" on the wire.
    LeaderEpoch(i32)
);
number!(
    /// An idempotent or transactional producer (KIP-98); -1 means "none" on the wire.
    ProducerId(i64)
);
number!(
    /// The incarnation of a producer id, 0 to 32767; -1 means "none" on the wire.
    ProducerEpoch(i16)
);
number!(
    /// A producer's per-partition record count, wrapping from `i32::MAX` to 0; -1 means "none".
    Sequence(i32)
);
number!(
    /// One shard, and the CPU slot it is pinned to: 0 to cores - 1.
    CoreId(u16)
);
number!(
    /// A broker of the cluster (`node.id`).
    BrokerId(i32)
);
number!(
    /// The number of a partition within its topic, 0 or greater.
    PartitionIndex(i32)
);

impl Offset {
    /// The offset `count` records further on.
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl Sequence {
    /// The sequence `count` records further on; `i32::MAX` is followed by 0
    /// (apache/kafka `DefaultRecordBatch.incrementSequence`).
    pub fn plus(self, count: i32) -> Sequence {
        if self.0 > i32::MAX - count {
            Sequence(count - (i32::MAX - self.0) - 1)
        } else {
            Sequence(self.0 + count)
        }
    }
}

/// A topic's UUID (KIP-516): a re-created topic has another one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The UUID of all zeros: "no topic id" on the wire.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// True for the UUID of all zeros.
    pub fn is_zero(self) -> bool {
        self == TopicId::ZERO
    }
}

impl fmt::Display for TopicId {
    /// Kafka's text form: URL-safe base64 without padding, 22 characters
    /// (apache/kafka `Uuid.toString`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        for place in 0..22u32 {
            // 21 groups of 6 bits from the top, then the 2 bits that are left, shifted up by 4.
            let group = if place < 21 {
                bits >> (122 - 6 * place)
            } else {
                bits << 4
            };
            write!(f, "{}", ALPHABET[(group & 63) as usize] as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for TopicId {
    type Err = ();

    /// Reads Kafka's text form. Anything but 22 characters of URL-safe base64 is refused.
    fn from_str(text: &str) -> Result<TopicId, ()> {
        if text.len() != 22 {
            return Err(());
        }
        let mut bits = 0u128;
        for (place, byte) in text.bytes().enumerate() {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return Err(()),
            } as u128;
            bits |= if place < 21 {
                value << (122 - 6 * place as u32)
            } else {
                value >> 4
            };
        }
        Ok(TopicId(bits.to_be_bytes()))
    }
}

/// One partition of one incarnation of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's UUID.
    pub topic: TopicId,
    /// The partition's number in the topic.
    pub partition: PartitionIndex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_text_is_kafkas_and_reads_back() {
        let id = TopicId([0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(id.to_string(), "_wECAwQFBgcICQoLDA0ODw");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("too short".parse::<TopicId>(), Err(()));
    }

    #[test]
    fn sequence_wraps_to_zero_after_the_largest() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 2).plus(5), Sequence(2));
        assert_eq!(Sequence(7).plus(5), Sequence(12));
    }
}
