//! Takes the kernel's ELF out of a compressed boot image.
//!
//! QEMU boots the ELF by its PVH entry in half the time that a bzImage needs to unpack itself.
//! The boot image's layout: Documentation/arch/x86/boot.rst, "The real-mode kernel header".

use std::io::{Cursor, Read};

const ELF: &[u8] = b"\x7fELF";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const SECTOR: usize = 512;

/// The ELF in `image`, which is a bzImage or the ELF itself.
///
/// # Errors
/// A sentence that says what `image` is not.
pub fn extract(image: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if image.starts_with(ELF) {
        return Ok(image);
    }
    let elf = decompress(payload(&image)?)?;
    if elf.starts_with(ELF) { Ok(elf) } else { Err("its payload is not an ELF") }
}

/// The compressed kernel within a bzImage.
fn payload(image: &[u8]) -> Result<&[u8], &'static str> {
    if image.get(HEADER_MAGIC..HEADER_MAGIC + 4) != Some(b"HdrS") {
        return Err("neither an ELF nor a Linux boot image");
    }
    let setup_sectors = usize::from(image[SETUP_SECTS]).max(1);
    let offset: [u8; 4] = image
        .get(PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("a truncated boot image")?;
    let start = (setup_sectors + 1) * SECTOR + u32::from_le_bytes(offset) as usize;
    image.get(start..).ok_or("a truncated boot image")
}

/// Unpacks one xz stream or one zstd frame; what follows it (the kernel appends the size) is ignored.
pub fn decompress(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut unpacked = Vec::new();
    if packed.starts_with(XZ) {
        liblzma::bufread::XzDecoder::new(packed)
            .read_to_end(&mut unpacked)
            .map_err(|_| "a damaged xz stream")?;
    } else if packed.starts_with(ZSTD) {
        zstd::stream::read::Decoder::with_buffer(Cursor::new(packed))
            .and_then(|decoder| decoder.single_frame().read_to_end(&mut unpacked))
            .map_err(|_| "a damaged zstd frame")?;
    } else {
        return Err("compressed by a method other than xz and zstd");
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn boot_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 4 * SECTOR];
        image[SETUP_SECTS] = 2;
        image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&(SECTOR as u32).to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(&8_u32.to_le_bytes());
        image
    }

    #[test]
    fn an_elf_is_taken_as_it_is() {
        assert_eq!(extract(b"\x7fELFkernel".to_vec()).unwrap(), b"\x7fELFkernel");
    }

    #[test]
    fn a_zstd_kernel_is_found_by_the_boot_header() {
        let image = boot_image(&zstd::encode_all(&b"\x7fELFkernel"[..], 1).unwrap());
        assert_eq!(extract(image).unwrap(), b"\x7fELFkernel");
    }

    #[test]
    fn an_xz_kernel_is_found_by_the_boot_header() {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(b"\x7fELFkernel").unwrap();
        let image = boot_image(&encoder.finish().unwrap());
        assert_eq!(extract(image).unwrap(), b"\x7fELFkernel");
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(extract(vec![0; 4096]).unwrap_err().contains("neither"));
        assert!(extract(boot_image(b"\x1f\x8b\x08")).unwrap_err().contains("method"));
        let mut cut = boot_image(b"");
        cut.truncate(SECTOR + 64);
        assert!(extract(cut).is_err());
    }
}
