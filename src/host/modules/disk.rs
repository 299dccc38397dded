//! Modules on disk: what depmod indexed, and what a module file says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Seek};

use memchr::{memchr, memchr_iter, memrchr};
use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::normal;
use crate::host::Root;
use crate::host::reader::Reader;
use crate::host::root::text_of;

/// Longest module that is unpacked; NVIDIA's, with its debug symbols, comes near.
const UNPACKED_LIMIT_BYTES: u64 = 256 << 20;
/// Memory that unpacking may take: the window of the strongest level, in KiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;
/// Longest `.modinfo`; it holds aliases of every device that the module drives.
const MODINFO_LIMIT_BYTES: u64 = 4 << 20;
/// Longest index of depmod.
const INDEX_LIMIT_BYTES: u64 = 64 << 20;

/// What a module says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleVersion {
    /// The version that its authors gave it; most modules of the kernel's own sources have none.
    pub version: Option<String>,
    /// Checksum of its sources.
    pub srcversion: Option<String>,
}

/// The fields of `.modinfo` that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModuleInfo {
    pub(super) version: ModuleVersion,
    /// Kernel release and options that it was built for.
    pub(super) vermagic: Option<String>,
}

/// The directory of a kernel's modules.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Where it is; `None` where there is none.
    pub(super) directory: Option<String>,
    /// Files by module, from modules.dep; `None` where depmod left no index.
    files: Option<BTreeMap<String, String>>,
    /// Modules that are part of the kernel; `None` where there is no list.
    built_in: Option<BTreeSet<String>>,
    built_in_info: BTreeMap<String, ModuleInfo>,
}

impl Disk {
    /// Reads what the indices of the kernel `release` say of the modules `wanted`: they list thousands.
    pub(super) fn read(reader: &mut Reader<'_>, release: &str, wanted: &BTreeSet<&str>) -> Self {
        let directory = ["/lib/modules", "/usr/lib/modules"].map(|above| format!("{above}/{release}"));
        let Some(directory) = directory.into_iter().find(|directory| reader.root.exists(directory)) else { return Self::default() };
        let index = |reader: &mut Reader<'_>, name: &str| {
            let read = reader.root.bytes_to(format!("{directory}/{name}"), INDEX_LIMIT_BYTES);
            reader.keep(read)
        };
        let wanted = Wanted::new(wanted);
        let files = index(reader, "modules.dep").map(|bytes| {
            let paths = lines(&bytes).filter_map(|line| Some(&line[..memchr(b':', line)?]));
            // depmod writes paths from the directory, or absolute ones where it was told of another.
            paths
                .filter_map(|path| wanted.module_of(path))
                .map(|(module, path)| (module, if path.starts_with('/') { path } else { format!("{directory}/{path}") }))
                .collect()
        });
        let built_in = index(reader, "modules.builtin")
            .map(|bytes| lines(&bytes).filter_map(|path| wanted.module_of(path)).map(|(module, _)| module).collect());
        let mut built_in_info: BTreeMap<String, ModuleInfo> = BTreeMap::new();
        // `module.key=value`, each ended by a null byte; long, and of use only where a module that matters is built in.
        let has_built_in = built_in.as_ref().is_some_and(|built_in: &BTreeSet<String>| !built_in.is_empty());
        let text = if has_built_in { index(reader, "modules.builtin.modinfo").map(text_of).unwrap_or_default() } else { String::new() };
        for entry in text.split('\0') {
            let Some((module, field)) = entry.split_once('.') else { continue };
            if let Some(module) = Some(normal(module)).filter(|module| wanted.names.contains(module.as_ref())) {
                built_in_info.entry(module.into_owned()).or_default().take(field);
            }
        }
        Self { directory: Some(directory), files, built_in, built_in_info }
    }

    /// The file of a module.
    pub(super) fn file(&self, module: &str) -> Option<&str> {
        self.files.as_ref()?.get(module).map(String::as_str)
    }

    /// Whether modules on disk are known.
    pub(super) fn is_indexed(&self) -> bool {
        self.files.is_some()
    }

    /// Whether a module is part of the kernel; `None` where there is no list.
    pub(super) fn is_built_in(&self, module: &str) -> Option<bool> {
        self.built_in.as_ref().map(|all| all.contains(module))
    }

    /// What a module that is part of the kernel says of itself.
    pub(super) fn built_in_version(&self, module: &str) -> Option<ModuleVersion> {
        self.built_in_info.get(module).map(|info| info.version.clone())
    }
}

impl ModuleInfo {
    fn take(&mut self, field: &str) {
        let Some((key, value)) = field.split_once('=') else { return };
        match key {
            "version" => self.version.version = Some(value.to_owned()),
            "srcversion" => self.version.srcversion = Some(value.to_owned()),
            "vermagic" => self.vermagic = Some(value.to_owned()),
            _ => {}
        }
    }
}

/// Modules that are looked for among thousands.
struct Wanted<'a> {
    names: &'a BTreeSet<&'a str>,
    /// By the letter that a name begins with, a bit for each length that wanted ones have: most others have another.
    lengths: [u64; 256],
}

impl<'a> Wanted<'a> {
    fn new(names: &'a BTreeSet<&'a str>) -> Self {
        let mut lengths = [0; 256];
        for name in names {
            if let Some(initial) = name.bytes().next() {
                lengths[usize::from(initial)] |= 1 << (name.len() % 64);
            }
        }
        Self { names, lengths }
    }

    /// The module that a path of modules.dep or modules.builtin is of, and the path, if it is wanted: its file's name as far as the first dot (kmod,
    /// shared/util.c, `modname_normalize`).
    fn module_of(&self, path: &[u8]) -> Option<(String, String)> {
        let path = path.trim_ascii();
        let file = &path[memrchr(b'/', path).map_or(0, |slash| slash + 1)..];
        let lengths = self.lengths[usize::from(*file.first()?)];
        if lengths == 0 {
            return None;
        }
        let stem = &file[..memchr(b'.', file).unwrap_or(file.len())];
        if lengths & (1 << (stem.len() % 64)) == 0 {
            return None;
        }
        let module = normal(std::str::from_utf8(stem).ok()?);
        self.names.contains(module.as_ref()).then(|| (module.into_owned(), String::from_utf8_lossy(path).into_owned()))
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memchr_iter(b'\n', bytes).chain([bytes.len()]).map(move |end| {
        let line = &bytes[begin..end];
        begin = end + 1;
        line
    })
}

/// What a module's file says of itself, or why that is not known. The compression is told by the content, as the kernel does it.
pub(super) fn information(root: &Root, path: &str) -> Result<ModuleInfo, String> {
    let mut source = match root.open(path) {
        Ok(Some(source)) => source,
        Ok(None) => return Err(format!("{path} is in modules.dep and not on disk: `depmod -a` mends the index")),
        Err(error) => return Err(error.to_string()),
    };
    let mut magic = [0; 6];
    let length = source.read(&mut magic).and_then(|length| source.rewind().map(|()| length)).map_err(|error| format!("{path}: {error}"))?;
    let unpacked = match &magic[..length] {
        [0x7f, b'E', b'L', b'F', ..] => return of_elf(source).ok_or_else(|| format!("{path} has no readable .modinfo")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unpack(lzma_rust2::XzReader::new_mem_limit(source, false, XZ_MEMORY_KIB)),
        [0x1f, 0x8b, ..] => unpack(flate2::read::GzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ruzstd::decoding::StreamingDecoder::new(source).map_err(|error| error.to_string()).and_then(unpack),
        _ => Err("neither an ELF file nor compressed with xz, zstd or gzip".to_owned()),
    };
    let bytes = unpacked.map_err(|why| format!("{path} cannot be unpacked: {why}"))?;
    of_elf(Cursor::new(bytes)).ok_or_else(|| format!("{path} has no readable .modinfo"))
}

fn unpack(packed: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    packed.take(UNPACKED_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > UNPACKED_LIMIT_BYTES { Err(format!("more than {UNPACKED_LIMIT_BYTES} bytes")) } else { Ok(bytes) }
}

/// The `.modinfo` of an ELF file, of which only that and the section table are read.
fn of_elf(file: impl Read + Seek) -> Option<ModuleInfo> {
    let cache = ReadCache::new(file);
    let section = match FileKind::parse(&cache).ok()? {
        FileKind::Elf64 => section::<FileHeader64<Endianness>, _>(&cache),
        FileKind::Elf32 => section::<FileHeader32<Endianness>, _>(&cache),
        _ => None,
    }?;
    let mut info = ModuleInfo::default();
    for field in section.split(|byte| *byte == 0) {
        info.take(&String::from_utf8_lossy(field));
    }
    Some(info)
}

fn section<'a, Elf: FileHeader<Endian = Endianness>, R: ReadRef<'a>>(data: R) -> Option<&'a [u8]> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let (_, section) = header.sections(endian, data).ok()?.section_by_name(endian, b".modinfo")?;
    if section.sh_size(endian).into() > MODINFO_LIMIT_BYTES {
        return None;
    }
    section.data(endian, data).ok()
}

#[cfg(test)]
#[path = "disk_tests.rs"]
pub(super) mod tests;
