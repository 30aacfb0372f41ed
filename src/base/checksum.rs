//! CRC-32C (Castagnoli), the checksum of Kafka's batches and of every file of ours; the only file that
//! names the crate which computes it.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of `parts` as if they were one behind the other.
pub fn crc32c_of(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    // It computes checksums of 64 bits too; of one of 32 the upper half is zero.
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    /// One bit after the other, as the polynomial says.
    fn by_hand(bytes: &[u8]) -> u32 {
        let step = |crc: u32| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
        !bytes.iter().fold(u32::MAX, byte)
    }

    #[test]
    fn the_examples_of_rfc_3720_hold() {
        let ascending: Vec<u8> = (0..32).collect();
        let examples: [(&[u8], u32); 5] = [
            (b"123456789", 0xE306_9283),
            (&[0; 32], 0x8A91_36AA),
            (&[0xFF; 32], 0x62A8_AB43),
            (&ascending, 0x46DD_794E),
            (b"", 0),
        ];
        for (bytes, crc) in examples {
            assert_eq!(crc32c(bytes), crc, "{bytes:?}");
            assert_eq!(by_hand(bytes), crc, "{bytes:?}");
        }
    }

    #[test]
    fn every_size_and_every_alignment_has_the_checksum_that_the_polynomial_says() {
        let mut bytes = vec![0; 5000];
        Prng::new(7).fill(&mut bytes);
        // Sizes around each width that the processor's instructions work in.
        let sizes = (0..=520).chain([1023, 1024, 1025, 4095, 4096, 4900]);
        for size in sizes {
            let at = size % 67;
            let bytes = &bytes[at..at + size];
            assert_eq!(crc32c(bytes), by_hand(bytes), "{size} bytes from {at}");
        }
    }

    #[test]
    fn parts_have_the_checksum_of_the_whole_wherever_it_is_cut() {
        let mut bytes = vec![0; 3000];
        Prng::new(8).fill(&mut bytes);
        let whole = crc32c(&bytes);
        for cut in [0, 1, 7, 44, 64, 255, 1024, 2999, 3000] {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(crc32c_of(&[front, back]), whole, "cut at {cut}");
            let (middle, end) = back.split_at(back.len() / 2);
            assert_eq!(crc32c_of(&[front, middle, end]), whole, "cut at {cut}");
        }
        assert_eq!(crc32c_of(&[]), 0);
    }
}
