//! Tests of the module files: plain, packed, damaged.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::host::Node;

/// The same file packed by `xz --check=crc32 --lzma2=dict=1MiB`.
const XZ: &str = "\
    fd377a585a0000016922de360200210110000000a8708e86e0018700a45d003f914584683d89a6da9ca6ac2e2bcbceff05c1f1ea4476eb040393bd0f\
    61252ea6966084f8e44cc0b5b31912cc711be61c9ed929850db41da651584553c65ab87c4f93efab171cd26002ec1e3fdf9fcde0403865ee5ce705d1\
    62b95a33b0659e62443727f94925f1a570c7504a1240d1bdfac2e9270cb27e6da2b294fddf66b3e6ced90e11662e5354c82f7d346f854d05a0a96e05\
    3c7712c1850ccc07e6e757fde43be000112d99780001bc0188030000ee0e96b93e300d8b020000000001595a\
";

/// The same file packed by `zstd -19`.
const ZSTD: &str = "\
    28b52ffd6488007d0500a208201e70db01fc5f55557508161d912594ca0303ceffef00a08ad59a52d6a02d53031c086b7ef06357b6975d7f3aa2a698\
    72fd4f74f14b4fb4f5c49413accaf75e5582db3a426144fe15c95118fad00c149ae4c7352e83764777689eff380db328097218d86555d414aefd138d\
    e8034253b3afdb7de003e9e3cf1f7dfe9c014cbbde1320d082a95a0f9ac88e8415900180ddc5c59b2edce63bd31cca626b4d309f15726c4e25376461\
    c37c213017f0c7f6a2\
";

/// The same file packed by `gzip -9 -n`.
const GZIP: &str = "\
    1f8b0800000000000203ab77f57163626464800146063b06040f014e20b11da02433031343596a5171667e9eada19e919e31437151324cc0d1c9d9c5\
    d5cdc0d0c8d8c4d4ccdcc2922127333935af38d5d63dc007a42b37313d33d9d64ccf50cf40d7d058373137c5cc4421d83740a1a0283535b7a0442137\
    3f25be342f273f3105c4841a5bacc0c0a007e466e6a5e533e8156714971495242631900e18b1f0b1f9db014a1711d0cf05c4cc58f46f82d22204f403\
    00112d997888010000\
";

const INFO: &[u8] =
    b"version=1.2.3\0srcversion=ABCDEF0123456789\0license=GPL\0vermagic=6.1.0-13-amd64 SMP preempt mod_unload modversions \0";

pub(in crate::host::modules) use crate::sim::host_tree::module_file as module;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn read(bytes: Vec<u8>) -> Result<ModuleInfo, String> {
    information(&Root::tree(BTreeMap::from([("/m.ko".into(), Node::File(bytes))])), "/m.ko")
}

fn expected() -> ModuleInfo {
    ModuleInfo {
        version: ModuleVersion { version: Some("1.2.3".to_owned()), srcversion: Some("ABCDEF0123456789".to_owned()) },
        vermagic: Some("6.1.0-13-amd64 SMP preempt mod_unload modversions ".to_owned()),
    }
}

#[test]
fn plain_and_packed_modules_are_read() {
    assert_eq!(read(module(INFO)), Ok(expected()));
    for packed in [XZ, ZSTD, GZIP] {
        assert_eq!(read(unhex(packed)), Ok(expected()));
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    assert!(read(b"hello".to_vec()).unwrap_err().contains("neither an ELF file nor compressed"));
    assert!(read(Vec::new()).is_err());
    assert_eq!(read(module(INFO)[..100].to_vec()).unwrap_err(), "/m.ko has no readable .modinfo");
    for packed in [XZ, ZSTD, GZIP] {
        let whole = unhex(packed);
        assert!(read(whole[..whole.len() / 2].to_vec()).unwrap_err().contains("cannot be unpacked"), "{packed}");
    }
    let missing = information(&Root::tree(BTreeMap::new()), "/m.ko").unwrap_err();
    assert!(missing.contains("depmod -a"), "{missing}");
}

#[test]
fn a_section_longer_than_the_file_is_refused() {
    let mut file = module(INFO);
    let length_at = file.len() - 64 - 64 + 32;
    file[length_at..length_at + 8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert!(read(file).is_err());
}

proptest! {
    #[test]
    fn damaged_modules_do_not_panic(which in 0..4_usize, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = [module(INFO), unhex(XZ), unhex(ZSTD), unhex(GZIP)][which].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read(bytes);
    }
}
