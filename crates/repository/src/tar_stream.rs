//! A tar archive as a stream of bytes: where one file ends and the next begins, without holding either.

use crate::Error;
use pgbosun_core::name::to_text;

const BLOCK: usize = 512;

/// What a piece of the stream is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A file begins; the bytes are its header.
    File { name: String, header: &'a [u8] },
    /// Contents or padding of the current file.
    Contents(&'a [u8]),
    /// The current file is complete: a volume may be cut here.
    Boundary,
}

/// Follows a tar stream that comes in arbitrary pieces.
#[derive(Debug, Default)]
pub(crate) struct TarStream {
    header: Vec<u8>,
    left: u64,
}

impl TarStream {
    /// Cuts `data` into pieces, in order.
    pub fn push(&mut self, mut data: &[u8], mut each: impl FnMut(Piece<'_>) -> Result<(), Error>) -> Result<(), Error> {
        while !data.is_empty() {
            if self.left > 0 {
                let take = usize::try_from(self.left).map_or(data.len(), |left| left.min(data.len()));
                each(Piece::Contents(&data[..take]))?;
                self.left -= take as u64;
                data = &data[take..];
                if self.left == 0 {
                    each(Piece::Boundary)?;
                }
                continue;
            }
            let take = (BLOCK - self.header.len()).min(data.len());
            self.header.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.header.len() < BLOCK {
                continue;
            }
            let header = std::mem::take(&mut self.header);
            // The end of the archive is two blocks of zeros; each volume gets its own.
            if header.iter().all(|byte| *byte == 0) {
                continue;
            }
            let (name, size) = parse(&header)?;
            each(Piece::File { name, header: &header })?;
            self.left = size.div_ceil(BLOCK as u64) * BLOCK as u64;
            if self.left == 0 {
                each(Piece::Boundary)?;
            }
        }
        Ok(())
    }

    /// The archive ended; it must not end within a file.
    pub fn finish(&self) -> Result<(), Error> {
        if self.left == 0 && self.header.is_empty() {
            Ok(())
        } else {
            Err(Error::Archive("it ends in the middle of a file".into()))
        }
    }
}

fn parse(block: &[u8]) -> Result<(String, u64), Error> {
    let failed = |error: std::io::Error| Error::Archive(format!("bad header: {error}"));
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let sum: u32 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    if header.cksum().map_err(failed)? != sum {
        return Err(Error::Archive("a header's checksum does not match".into()));
    }
    let name = to_text(&header.path_bytes());
    let size = if header.entry_type().is_file() { header.size().map_err(failed)? } else { 0 };
    Ok((name, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(sizes: &[usize]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (index, size) in sizes.iter().enumerate() {
            let mut header = tar::Header::new_ustar();
            header.set_size(*size as u64);
            header.set_cksum();
            builder.append_data(&mut header, format!("base/{index}"), vec![7_u8; *size].as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    proptest::proptest! {
        #[test]
        fn files_and_boundaries_are_found_however_the_stream_is_cut(
            sizes in proptest::collection::vec(0_usize..3000, 1..12), piece in 1_usize..1500
        ) {
            let bytes = archive(&sizes);
            let mut stream = TarStream::default();
            let (mut names, mut boundaries, mut contents) = (Vec::new(), 0, 0);
            for chunk in bytes.chunks(piece) {
                stream.push(chunk, |piece| {
                    match piece {
                        Piece::File { name, header } => { assert_eq!(header.len(), BLOCK); names.push(name) }
                        Piece::Contents(data) => contents += data.len(),
                        Piece::Boundary => boundaries += 1,
                    }
                    Ok(())
                }).unwrap();
            }
            stream.finish().unwrap();
            proptest::prop_assert_eq!(names, (0..sizes.len()).map(|i| format!("base/{i}")).collect::<Vec<_>>());
            proptest::prop_assert_eq!(boundaries, sizes.len());
            proptest::prop_assert_eq!(contents, sizes.iter().map(|s| s.div_ceil(BLOCK) * BLOCK).sum::<usize>());
        }
    }

    #[test]
    fn a_broken_archive_is_refused() {
        let mut bytes = archive(&[100]);
        bytes[0] ^= 1;
        let mut stream = TarStream::default();
        assert!(stream.push(&bytes, |_| Ok(())).is_err());
        let mut stream = TarStream::default();
        stream.push(&archive(&[2000])[..700], |_| Ok(())).unwrap();
        assert!(stream.finish().is_err());
    }
}
