//! Registration for the data-direct device of mlx5, which only libmlx5 has an entry point for.
#![allow(unsafe_code, reason = "looks a symbol up in a shared library and gives it its C type")]

use std::ffi::c_int;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rdma_sys::{ibv_mr, ibv_pd};

/// The library's name; libibverbs loads the same file as mlx5's provider.
const LIBMLX5: &str = "libmlx5.so.1";

/// `MLX5DV_REG_DMABUF_ACCESS_DATA_DIRECT` (rdma-core, providers/mlx5/mlx5dv.h; mlx5dv_reg_dmabuf_mr(3)).
pub const DATA_DIRECT: c_int = 1;

/// `mlx5dv_reg_dmabuf_mr(pd, offset, length, iova, fd, access, mlx5_access)`.
pub type RegisterDirect = unsafe extern "C" fn(*mut ibv_pd, u64, usize, u64, c_int, c_int, c_int) -> *mut ibv_mr;

/// The library's entry point, or why there is none. It refuses devices that are not mlx5's with EOPNOTSUPP by itself.
pub fn register() -> Result<RegisterDirect, String> {
    static FOUND: OnceLock<Result<RegisterDirect, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            // SAFETY: a provider that libibverbs loads as well; only the sacrificial child process does this. It stays loaded.
            unsafe {
                let library = Library::open(Some(LIBMLX5), RTLD_NOW | RTLD_LOCAL).map_err(|_| format!("{LIBMLX5} cannot be loaded"))?;
                let found = library.get::<RegisterDirect>(b"mlx5dv_reg_dmabuf_mr\0").map(|symbol| *symbol);
                std::mem::forget(library);
                found.map_err(|_| format!("{LIBMLX5} has no mlx5dv_reg_dmabuf_mr: an older rdma-core"))
            }
        })
        .clone()
}
