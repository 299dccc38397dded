//! The table of entry points: one seam to libibverbs and librdmacm, which are loaded at run time.
//!
//! rdma-sys gives the types; its extern functions are never called, so the linker records neither library as needed.
//! What verbs.h implements inline (polling, posting) works through the operations of an open context and needs no entry here.
#![allow(unsafe_code, reason = "looks symbols up in a shared library and gives them their C types")]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libc::sockaddr;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rdma_sys::*;

use super::LoadError;

/// The library's file name as every rdma-core since its split in 2017 installs it.
pub const LIBIBVERBS: &str = "libibverbs.so.1";
/// EFA's provider, which is a library of its own too. libibverbs loads the same file.
const LIBEFA: &str = "libefa.so.1";
/// As [`LIBIBVERBS`], for the connection manager.
pub const LIBRDMACM: &str = "librdmacm.so.1";

macro_rules! table {
    (
        $(#[$meta:meta])* $name:ident;
        required { $($req:ident: fn($($rarg:ty),*) -> $rret:ty;)* }
        optional { $($opt:ident($since:literal): fn($($oarg:ty),*) -> $oret:ty;)* }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $(#[doc = concat!("`", stringify!($req), "`; see its manual page.")]
            pub $req: unsafe extern "C" fn($($rarg),*) -> $rret,)*
            $(#[doc = concat!("`", stringify!($opt), "`, in rdma-core since ", $since, "; `None` in an older library.")]
            pub $opt: Option<unsafe extern "C" fn($($oarg),*) -> $oret>,)*
            /// Keeps the code behind the pointers mapped; a table that is not from a library has none.
            pub library: Option<Library>,
        }

        impl $name {
            /// Fills the table from an open library.
            fn from_library(library: Library, path: &Path) -> Result<Self, LoadError> {
                // SAFETY: the types are those of verbs.h and rdma_cma.h for these symbols, and `library` outlives the pointers.
                unsafe {
                    Ok(Self {
                        $($req: *library
                            .get::<unsafe extern "C" fn($($rarg),*) -> $rret>(concat!(stringify!($req), "\0").as_bytes())
                            .map_err(|_| LoadError::SymbolMissing { library: path.to_owned(), symbol: stringify!($req).to_owned() })?,)*
                        $($opt: library
                            .get::<unsafe extern "C" fn($($oarg),*) -> $oret>(concat!(stringify!($opt), "\0").as_bytes())
                            .ok()
                            .map(|symbol| *symbol),)*
                        library: Some(library),
                    })
                }
            }
        }
    };
}

table! {
    /// Entry points of libibverbs. The simulated provider fills the same table.
    Verbs;
    required {
        ibv_get_device_list: fn(*mut c_int) -> *mut *mut ibv_device;
        ibv_free_device_list: fn(*mut *mut ibv_device) -> ();
        ibv_get_device_name: fn(*mut ibv_device) -> *const c_char;
        ibv_open_device: fn(*mut ibv_device) -> *mut ibv_context;
        ibv_close_device: fn(*mut ibv_context) -> c_int;
        ibv_query_device: fn(*mut ibv_context, *mut ibv_device_attr) -> c_int;
        ibv_query_port: fn(*mut ibv_context, u8, *mut c_void) -> c_int;
        ibv_query_gid: fn(*mut ibv_context, u8, c_int, *mut ibv_gid) -> c_int;
        ibv_query_pkey: fn(*mut ibv_context, u8, c_int, *mut u16) -> c_int;
        ibv_alloc_pd: fn(*mut ibv_context) -> *mut ibv_pd;
        ibv_dealloc_pd: fn(*mut ibv_pd) -> c_int;
        ibv_reg_mr: fn(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
        ibv_dereg_mr: fn(*mut ibv_mr) -> c_int;
        ibv_create_cq: fn(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
        ibv_destroy_cq: fn(*mut ibv_cq) -> c_int;
        ibv_create_srq: fn(*mut ibv_pd, *mut ibv_srq_init_attr) -> *mut ibv_srq;
        ibv_destroy_srq: fn(*mut ibv_srq) -> c_int;
        ibv_create_qp: fn(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
        ibv_modify_qp: fn(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
        ibv_destroy_qp: fn(*mut ibv_qp) -> c_int;
        ibv_query_qp: fn(*mut ibv_qp, *mut ibv_qp_attr, c_int, *mut ibv_qp_init_attr) -> c_int;
        ibv_modify_srq: fn(*mut ibv_srq, *mut ibv_srq_attr, c_int) -> c_int;
        ibv_query_srq: fn(*mut ibv_srq, *mut ibv_srq_attr) -> c_int;
        ibv_resize_cq: fn(*mut ibv_cq, c_int) -> c_int;
        ibv_create_comp_channel: fn(*mut ibv_context) -> *mut ibv_comp_channel;
        ibv_destroy_comp_channel: fn(*mut ibv_comp_channel) -> c_int;
        ibv_get_cq_event: fn(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
        ibv_ack_cq_events: fn(*mut ibv_cq, c_uint) -> ();
        ibv_get_async_event: fn(*mut ibv_context, *mut ibv_async_event) -> c_int;
        ibv_ack_async_event: fn(*mut ibv_async_event) -> ();
        ibv_create_ah: fn(*mut ibv_pd, *mut ibv_ah_attr) -> *mut ibv_ah;
        ibv_destroy_ah: fn(*mut ibv_ah) -> c_int;
    }
    optional {
        _ibv_query_gid_ex("v32"): fn(*mut ibv_context, u32, u32, *mut ibv_gid_entry, u32, usize) -> c_int;
        ibv_reg_dmabuf_mr("v34"): fn(*mut ibv_pd, u64, usize, u64, c_int, c_int) -> *mut ibv_mr;
        efadv_create_driver_qp("v22 (libefa)"): fn(*mut ibv_pd, *mut ibv_qp_init_attr, u32) -> *mut ibv_qp;
        mlx5dv_reg_dmabuf_mr("v55 (libmlx5)"): fn(*mut ibv_pd, u64, usize, u64, c_int, c_int, c_int) -> *mut ibv_mr;
    }
}

table! {
    /// Entry points of librdmacm. `rdma_get_src_port` gives its port in network byte order.
    ConnectionManager;
    required {
        rdma_create_event_channel: fn() -> *mut rdma_event_channel;
        rdma_destroy_event_channel: fn(*mut rdma_event_channel) -> ();
        rdma_create_id: fn(*mut rdma_event_channel, *mut *mut rdma_cm_id, *mut c_void, rdma_port_space::Type) -> c_int;
        rdma_destroy_id: fn(*mut rdma_cm_id) -> c_int;
        rdma_set_option: fn(*mut rdma_cm_id, c_int, c_int, *mut c_void, usize) -> c_int;
        rdma_bind_addr: fn(*mut rdma_cm_id, *mut sockaddr) -> c_int;
        rdma_resolve_addr: fn(*mut rdma_cm_id, *mut sockaddr, *mut sockaddr, c_int) -> c_int;
        rdma_resolve_route: fn(*mut rdma_cm_id, c_int) -> c_int;
        rdma_create_qp: fn(*mut rdma_cm_id, *mut ibv_pd, *mut ibv_qp_init_attr) -> c_int;
        rdma_destroy_qp: fn(*mut rdma_cm_id) -> ();
        rdma_listen: fn(*mut rdma_cm_id, c_int) -> c_int;
        rdma_connect: fn(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
        rdma_accept: fn(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
        rdma_reject: fn(*mut rdma_cm_id, *const c_void, u8) -> c_int;
        rdma_disconnect: fn(*mut rdma_cm_id) -> c_int;
        rdma_get_src_port: fn(*mut rdma_cm_id) -> u16;
        rdma_get_cm_event: fn(*mut rdma_event_channel, *mut *mut rdma_cm_event) -> c_int;
        rdma_ack_cm_event: fn(*mut rdma_cm_event) -> c_int;
    }
    optional {}
}

// SAFETY: the tables hold code addresses and a library handle, all of them valid in every thread; verbs calls are thread safe
// (ibv_create_qp(3) and its kin name no restriction, and libibverbs locks what it shares).
unsafe impl Send for Verbs {}
// SAFETY: as above.
unsafe impl Sync for Verbs {}

impl Verbs {
    /// Loads libibverbs from `path`, or by its name where the dynamic linker finds it.
    ///
    /// # Errors
    /// `LoadError::LibraryMissing`, `LoadError::LibraryUnusable` or `LoadError::SymbolMissing`.
    pub fn load(path: Option<&Path>) -> Result<Self, LoadError> {
        let path = path.map_or_else(|| PathBuf::from(LIBIBVERBS), Path::to_owned);
        Self::from_library(open(&path)?, &path)
    }
}

impl Verbs {
    /// The call of libefa that makes queue pairs of EFA's own type, where that library is there. It stays loaded.
    pub(super) fn create_efa_qp(&self) -> Option<CreateDriverQp> {
        static LOADED: OnceLock<Option<(CreateDriverQp, Library)>> = OnceLock::new();
        let load = || {
            let library = open(Path::new(LIBEFA)).ok()?;
            // SAFETY: the type is that of efadv.h for this symbol, and the library is never closed.
            let call = unsafe { *library.get::<CreateDriverQp>(b"efadv_create_driver_qp\0").ok()? };
            Some((call, library))
        };
        self.efadv_create_driver_qp.or_else(|| LOADED.get_or_init(load).as_ref().map(|(call, _)| *call))
    }
}

/// `efadv_create_driver_qp` of efadv.h.
pub(super) type CreateDriverQp = unsafe extern "C" fn(*mut ibv_pd, *mut ibv_qp_init_attr, u32) -> *mut ibv_qp;

impl ConnectionManager {
    /// Loads librdmacm by its name.
    ///
    /// # Errors
    /// As [`Verbs::load`].
    pub fn load() -> Result<Self, LoadError> {
        let path = PathBuf::from(LIBRDMACM);
        Self::from_library(open(&path)?, &path)
    }

    /// Whether an event channel can be made, which opens /dev/infiniband/rdma_cm.
    ///
    /// # Errors
    /// The errno of `rdma_create_event_channel`, 0 where it set none.
    pub fn probe(&self) -> Result<(), i32> {
        nix::errno::Errno::clear();
        // SAFETY: no arguments; the channel is destroyed once, at once.
        unsafe {
            let channel = (self.rdma_create_event_channel)();
            if channel.is_null() {
                return Err(nix::errno::Errno::last_raw());
            }
            (self.rdma_destroy_event_channel)(channel);
        }
        Ok(())
    }
}

/// Opens a library; a file that does not exist and a file that cannot be used are different errors.
fn open(path: &Path) -> Result<Library, LoadError> {
    // SAFETY: initialisers of libibverbs, librdmacm and a library chosen by the user run here; that is what loading means.
    // Only the sacrificial child process loads anything, so a crash in one is seen as such.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        let detail = detail_of(&error);
        // dlerror has no codes. glibc words a file that it did not find so, for the library itself and for what it needs.
        let itself = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if detail.contains("No such file or directory") && detail.split(':').next().is_some_and(|file| file.ends_with(itself)) {
            LoadError::LibraryMissing { library: path.to_owned() }
        } else {
            LoadError::LibraryUnusable { library: path.to_owned(), detail }
        }
    })
}

/// What the dynamic linker said, without libloading's own words.
fn detail_of(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let error = Verbs::load(Some(Path::new("/nowhere/libibverbs.so.1"))).err().unwrap();
        assert!(matches!(error, LoadError::LibraryMissing { .. }), "{error:?}");
        assert!(error.to_string().contains("/nowhere/libibverbs.so.1"));
    }

    #[test]
    fn a_library_of_another_kind_lacks_the_symbols() {
        let error = Verbs::load(Some(Path::new("libm.so.6"))).err().unwrap();
        assert!(matches!(&error, LoadError::SymbolMissing { symbol, .. } if symbol == "ibv_get_device_list"), "{error:?}");
    }

    #[test]
    fn a_file_that_is_no_library_is_unusable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not an ELF file").unwrap();
        let error = Verbs::load(Some(file.path())).err().unwrap();
        assert!(matches!(error, LoadError::LibraryUnusable { .. }), "{error:?}");
    }
}
