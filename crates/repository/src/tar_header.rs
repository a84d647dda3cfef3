//! Headers of tar entries for names and links of any length.
//!
//! A name that ustar holds is written so, byte for byte; for any other a pax header goes before, which every tar of today
//! reads. Nothing is cut off and nothing is recoded. Readers that look for the end of a pax record by its line feed, as ours does,
//! would cut a name that holds one: such a name goes before in GNU's form.

const BLOCK: usize = 512;
/// Bytes of a name or a link in the oldest part of a header.
const SHORT: usize = 100;

/// The blocks that begin an entry under this name, a link leading to `link`. The rest of `header` is as it was set.
pub fn tar_header(mut header: tar::Header, name: &[u8], link: Option<&[u8]>) -> Vec<u8> {
    let (mut records, mut blocks) = (Vec::new(), Vec::with_capacity(BLOCK));
    let mut before = |key: &str, kind: u8, value: &[u8]| match value.contains(&b'\n') {
        true => gnu(&mut blocks, kind, value),
        false => record(&mut records, key, value),
    };
    if !fits(&mut header, name) {
        header.as_mut_bytes()[..SHORT].copy_from_slice(&name[..SHORT]);
        before("path", b'L', name);
    }
    if let Some(link) = link {
        let short = &link[..link.len().min(SHORT)];
        header.as_mut_bytes()[157..157 + SHORT].fill(0);
        header.as_mut_bytes()[157..157 + short.len()].copy_from_slice(short);
        if link.len() > SHORT {
            before("linkpath", b'K', link);
        }
    }
    header.set_cksum();
    if !records.is_empty() {
        let mut all = Vec::new();
        if records.iter().any(|byte| !byte.is_ascii()) {
            record(&mut all, "hdrcharset", b"BINARY");
        }
        all.append(&mut records);
        let mut extension = tar::Header::new_ustar();
        extension.as_mut_bytes()[..6].copy_from_slice(b"PaxHdr");
        extension.set_entry_type(tar::EntryType::XHeader);
        extension.set_mode(0o600);
        extension.set_size(all.len() as u64);
        extension.set_cksum();
        blocks.extend_from_slice(extension.as_bytes());
        all.resize(all.len().next_multiple_of(BLOCK), 0);
        blocks.append(&mut all);
    }
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

/// A name in GNU's form: an entry of its own that holds it.
fn gnu(blocks: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..13].copy_from_slice(b"././@LongLink");
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o600);
    header.set_size(value.len() as u64 + 1);
    header.set_cksum();
    blocks.extend_from_slice(header.as_bytes());
    blocks.extend_from_slice(value);
    blocks.push(0);
    blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
}

/// Writes a name into a header where there is room: whole, or before and after a slash.
fn fits(header: &mut tar::Header, name: &[u8]) -> bool {
    header.as_mut_bytes()[..SHORT].fill(0);
    header.as_mut_bytes()[345..500].fill(0);
    if name.len() <= SHORT {
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        return true;
    }
    let mut slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let divides = |at: &usize| (1..=155).contains(at) && (1..=SHORT).contains(&(name.len() - at - 1));
    let Some(at) = slashes.find(divides) else { return false };
    header.as_mut_bytes()[345..345 + at].copy_from_slice(&name[..at]);
    header.as_mut_bytes()[..name.len() - at - 1].copy_from_slice(&name[at + 1..]);
    true
}

/// `<length> <key>=<value>\n`, the length of the whole with its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut archive = tar::Archive::new(bytes);
        let mut entries = archive.entries().unwrap();
        let entry = entries.next().unwrap().unwrap();
        let read = (entry.path_bytes().into_owned(), entry.link_name_bytes().map(|link| link.into_owned()));
        assert!(entries.next().is_none());
        read
    }

    proptest::proptest! {
        #[test]
        fn names_and_links_of_any_bytes_and_length_come_back(
            name in "[a-z/]{1,40}|[a-z]{90,110}|([a-z]{1,60}/){1,6}[a-z]{1,160}",
            odd in proptest::option::of(128_u8..=255), link in proptest::collection::vec(1_u8..=255, 1..300)
        ) {
            let mut name = name.into_bytes();
            name.extend(odd);
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            proptest::prop_assert_eq!(read(&tar_header(header.clone(), &name, None)), (name.clone(), None));
            header.set_entry_type(tar::EntryType::Symlink);
            proptest::prop_assert_eq!(read(&tar_header(header, &name, Some(&link))), (name, Some(link)));
        }
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for length in 1..200 {
            let (mut records, value) = (Vec::new(), vec![b'x'; length]);
            record(&mut records, "path", &value);
            let digits = records.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let said: usize = std::str::from_utf8(&records[..digits]).unwrap().parse().unwrap();
            assert_eq!(said, records.len());
        }
    }
}
