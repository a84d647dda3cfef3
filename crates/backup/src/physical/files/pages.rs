//! Checksums of pages while the server writes them (PostgreSQL: `checksum_impl.h`, `verify_page_checksum`).
//!
//! A page that was changed after the backup began comes back from the WAL whole, so it is not checked: also not where
//! half of it is new, since its first half holds the position. One that is older must have the right checksum.

use pgbosun_core::lsn::Lsn;
use std::{fs::File, io, os::unix::fs::FileExt};

pub(super) const PAGE: usize = 8192;
/// Pages of a file of a relation (`RELSEG_SIZE`).
const SEGMENT_PAGES: u32 = 131_072;

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;
const OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

const fn mix(sum: u32, value: u32) -> u32 {
    let mixed = sum ^ value;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

/// The checksum a page must carry: FNV-1a in lanes, over the page with its checksum as zero.
fn checksum(page: &[u8], number: u32) -> u16 {
    let mut sums = OFFSETS;
    for (row, lanes) in page.chunks_exact(LANES * 4).enumerate() {
        for (lane, word) in lanes.chunks_exact(4).enumerate() {
            let mut value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if row == 0 && lane == 2 {
                value &= 0xFFFF_0000;
            }
            sums[lane] = mix(sums[lane], value);
        }
    }
    for sum in &mut sums {
        *sum = mix(mix(*sum, 0), 0);
    }
    let sum = sums.iter().fold(0, |all, sum| all ^ sum) ^ number;
    // Never zero, which stands for none.
    u16::try_from(sum % 65_535 + 1).unwrap_or(u16::MAX)
}

fn half(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

/// Whether a page is as it was written, or will come from the WAL.
fn is_good(page: &[u8], number: u32, start: Lsn) -> bool {
    let word = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    let position = Lsn(word(0) << 32 | word(4));
    // pd_upper of a page that was never used is 0.
    half(page, 14) == 0 || position >= start || half(page, 8) == checksum(page, number)
}

/// A file of a relation whose pages carry checksums: the number of its segment.
pub(super) fn segment_of(directory_is_relations: bool, file_name: &str) -> Option<u32> {
    let (name, segment) = match file_name.rsplit_once('.') {
        Some((name, segment)) => (name, segment.parse().ok()?),
        None => (file_name, 0),
    };
    let node = ["_fsm", "_vm", "_init"].iter().find_map(|fork| name.strip_suffix(fork)).unwrap_or(name);
    let is_node = !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_digit());
    (directory_is_relations && is_node).then_some(segment)
}

/// Checks the pages of a chunk that begins at this position of the file. A page that looks wrong is read once more, since
/// the server may just have been writing it. Returns the numbers of those that stay wrong.
pub(super) fn check(chunk: &mut [u8], file: &File, position: u64, segment: u32, start: Lsn) -> io::Result<Vec<u32>> {
    let mut wrong = Vec::new();
    let first = u32::try_from(position / PAGE as u64).unwrap_or(u32::MAX);
    for (number, page) in (first..).zip(chunk.chunks_exact_mut(PAGE)) {
        let in_relation = segment.wrapping_mul(SEGMENT_PAGES).wrapping_add(number);
        if is_good(page, in_relation, start) {
            continue;
        }
        let mut again = vec![0; PAGE];
        match file.read_exact_at(&mut again, u64::from(number) * PAGE as u64) {
            Ok(()) => page.copy_from_slice(&again),
            // It was cut off meanwhile, which the WAL tells.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        }
        if !is_good(page, in_relation, start) {
            wrong.push(number);
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lsn: u64, number: u32) -> Vec<u8> {
        let mut page: Vec<u8> = (0..PAGE).map(|at| (at % 251) as u8).collect();
        page[0..4].copy_from_slice(&((lsn >> 32) as u32).to_le_bytes());
        page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
        let sum = checksum(&page, number);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn c15_only_old_pages_with_a_wrong_checksum_are_wrong() {
        let start = Lsn(5000);
        assert!(is_good(&page(4000, 7), 7, start));
        assert!(!is_good(&page(4000, 7), 8, start), "the number of the page counts");
        let mut torn = page(4000, 7);
        torn[PAGE - 1] ^= 1;
        assert!(!is_good(&torn, 7, start));
        torn[4..8].copy_from_slice(&5000_u32.to_le_bytes());
        assert!(is_good(&torn, 7, start), "it comes from the WAL");
        assert!(is_good(&[0; PAGE], 7, start), "it was never used");
    }

    #[test]
    fn c15_a_page_the_server_was_writing_is_read_again() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[page(1, 0), page(1, 1)].concat()).unwrap();
        let mut chunk = [page(1, 0), page(1, 1)].concat();
        chunk[PAGE + 100] ^= 1;
        assert_eq!(check(&mut chunk, &file, 0, 0, Lsn(9)).unwrap(), [] as [u32; 0]);
        assert_eq!(chunk[PAGE..], page(1, 1), "and taken as it is then");
        assert_eq!(check(&mut chunk, &file, 0, 1, Lsn(9)).unwrap(), [0, 1], "of another segment both are wrong");
    }

    #[test]
    fn relation_files_are_known_by_their_names() {
        for (name, segment) in
            [("16384", Some(0)), ("16384.3", Some(3)), ("16384_fsm", Some(0)), ("16384_init.1", Some(1))]
        {
            assert_eq!(segment_of(true, name), segment, "{name}");
        }
        for name in ["pg_filenode.map", "PG_VERSION", "16384.x", "_fsm", "16384_foo"] {
            assert_eq!(segment_of(true, name), None, "{name}");
        }
        assert_eq!(segment_of(false, "16384"), None);
    }
}
