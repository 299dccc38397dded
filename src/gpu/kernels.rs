//! Work that a GPU does itself: writing the pattern, comparing it, watching for what a NIC writes.
//!
//! The kernels are PTX, which the driver assembles for the GPU that it has: no toolkit is needed, and a driver or a container without
//! the assembler (libnvidia-ptxjitcompiler) says so when they are loaded.
#![allow(unsafe_code, reason = "calls a C interface with addresses of memory of this process")]

use std::ffi::{CStr, c_void};

use cudarc::driver::sys::{self, CUfunction, CUmodule, CUstream};

use super::context::need;
use super::cuda::checked;
use super::{Buffer, Context, GpuError, Pinned, Stream};

/// Ends with a zero, as cuModuleLoadData takes a text.
const PTX: &str = concat!(include_str!("kernels.ptx"), "\0");
/// Threads of a block, and blocks at most: enough for any GPU's memory to be the limit.
const THREADS: u32 = 256;
const BLOCKS: u32 = 1024;
/// What part of a pattern's seed each iteration adds; as in `transfer::pattern`.
const ITERATION: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bytes of what `watch` tells, and where in it a number is that it may watch, counted in numbers.
const TOLD: usize = 4096;
const FLAG: usize = 64;
/// Nanoseconds that a number may take which is there already.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Kernels that are loaded on a GPU.
pub struct Kernels {
    context: Context,
    module: CUmodule,
    fill: CUfunction,
    compare: CUfunction,
    watch: CUfunction,
    /// Where `compare` counts.
    result: Buffer,
    /// Where `watch` runs, beside everything else, and what it tells.
    stream: Stream,
    told: Pinned,
}

/// What differs from a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Differing {
    pub bytes: u64,
    /// The first one's offset.
    pub first: u64,
}

/// What a GPU that watches has to know.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// Address of the number that becomes the iteration's.
    pub flag: u64,
    /// Address of the numbers that have to be the iteration's by then.
    pub data: u64,
    /// How many.
    pub words: u64,
    /// The first iteration.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Nanoseconds that the flag may take.
    pub patience_ns: u64,
}

/// A GPU that watches. Waits for the kernel when dropped.
pub struct Watching<'a>(&'a Kernels);

/// What a GPU that watches has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The last iteration that it is done with.
    pub done: u64,
    /// Iterations of which it saw a stale number after the flag.
    pub stale_iterations: u64,
    /// Stale numbers.
    pub stale_words: u64,
    /// The first such iteration.
    pub first: u64,
    /// The flag did not come in time.
    pub gave_up: bool,
}

impl Context {
    /// Loads the kernels.
    ///
    /// # Errors
    /// The driver cannot assemble them: CUDA_ERROR_JIT_COMPILER_NOT_FOUND where its assembler is not installed.
    pub fn kernels(&self) -> Result<Kernels, GpuError> {
        for symbol in ["cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel"] {
            need(symbol)?;
        }
        let (result, stream, told) = (self.allocate(16)?, self.stream()?, self.allocate_pinned(TOLD)?);
        self.enter()?;
        let mut module: CUmodule = std::ptr::null_mut();
        // SAFETY: a text that ends with a zero, and a handle, which both outlive the call.
        let code = unsafe { sys::cuModuleLoadData(&raw mut module, PTX.as_ptr().cast()) };
        checked("cuModuleLoadData", self.pci(), code)?;
        let function = |name: &CStr| {
            let mut function: CUfunction = std::ptr::null_mut();
            // SAFETY: the module is loaded, the name ends with a zero, and the handle outlives the call.
            let code = unsafe { sys::cuModuleGetFunction(&raw mut function, module, name.as_ptr()) };
            checked("cuModuleGetFunction", self.pci(), code).map(|()| function)
        };
        let found = (|| Ok((function(c"fill")?, function(c"compare")?, function(c"watch")?)))();
        match found {
            Ok((fill, compare, watch)) => Ok(Kernels { context: self.clone(), module, fill, compare, watch, result, stream, told }),
            Err(error) => {
                // SAFETY: loaded above, and nothing of it is used.
                unsafe { sys::cuModuleUnload(module) };
                Err(error)
            }
        }
    }
}

impl Kernels {
    /// Writes a pattern of an iteration into a buffer, or its opposite, and waits until it is there.
    ///
    /// # Errors
    /// The range is not of a GPU's memory of this process, or the kernel failed.
    pub fn fill(&self, at: u64, length: u64, iteration: u64, is_opposite: bool) -> Result<(), GpuError> {
        within(at, length)?;
        let (mut at, mut length, mut salt) = (at, length, iteration.wrapping_mul(ITERATION));
        let mut flip: u32 = if is_opposite { 0xff } else { 0 };
        let mut arguments = [pointer(&mut at), pointer(&mut length), pointer(&mut salt), pointer(&mut flip)];
        self.launch(self.fill, blocks(length), std::ptr::null_mut(), &mut arguments)?;
        self.context.settle()
    }

    /// Compares memory with an iteration's pattern.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub fn compare(&self, at: u64, length: u64, iteration: u64) -> Result<Option<Differing>, GpuError> {
        within(at, length)?;
        let words = [0, u64::MAX].map(u64::to_ne_bytes);
        self.result.write(0, words.as_flattened())?;
        let (mut at, mut length, mut salt) = (at, length, iteration.wrapping_mul(ITERATION));
        let mut result = self.result.address();
        let mut arguments = [pointer(&mut at), pointer(&mut length), pointer(&mut salt), pointer(&mut result)];
        // In the stream of the copies, behind them.
        self.launch(self.compare, blocks(length), std::ptr::null_mut(), &mut arguments)?;
        self.context.settle()?;
        let mut found = [[0; 8]; 2];
        self.result.read(0, found.as_flattened_mut())?;
        let [bytes, first] = found.map(u64::from_ne_bytes);
        Ok((bytes > 0).then_some(Differing { bytes, first }))
    }

    /// Lets the GPU watch, which it does once at a time. What it watches must live as long as what is returned.
    ///
    /// # Errors
    /// A range is not of a GPU's memory of this process, or the kernel was not started.
    pub fn watch(&mut self, what: Watched) -> Result<Watching<'_>, GpuError> {
        within(what.flag, size_of::<u64>() as u64)?;
        self.start(what)
    }

    /// How many numbers are not `value` as the GPU sees them now.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub fn stale(&mut self, data: u64, words: u64, value: u64) -> Result<u64, GpuError> {
        // A flag that is there already.
        self.told.store(FLAG, value);
        let flag = self.told.pages().as_ptr() as u64 + (FLAG * size_of::<u64>()) as u64;
        let seen = self.start(Watched { flag, data, words, first: value, count: 1, patience_ns: PATIENCE_NS })?.finish()?;
        if seen.gave_up {
            return Err(GpuError::NotAsked { why: "the GPU does not see a number in memory of the host".to_owned() });
        }
        Ok(seen.stale_words)
    }

    fn start(&mut self, what: Watched) -> Result<Watching<'_>, GpuError> {
        within(what.data, what.words * size_of::<u64>() as u64)?;
        (0..FLAG).for_each(|index| self.told.store(index, 0));
        let mut numbers = [what.flag, what.data, what.words, what.first, what.count, what.patience_ns, self.told.pages().as_ptr() as u64];
        let mut arguments = numbers.each_mut().map(pointer);
        self.launch(self.watch, 1, self.stream.raw(), &mut arguments)?;
        Ok(Watching(self))
    }

    fn launch(&self, function: CUfunction, blocks: u32, stream: CUstream, arguments: &mut [*mut c_void]) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: as many arguments of such sizes as the kernel has, copied before the call returns; the memory that they name is
        // checked or held by the callers.
        let code =
            unsafe { sys::cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, stream, arguments.as_mut_ptr(), std::ptr::null_mut()) };
        checked("cuLaunchKernel", self.context.pci(), code)
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: loaded once and unloaded once; all that was launched is done.
            unsafe { sys::cuModuleUnload(self.module) };
        }
    }
}

impl Watching<'_> {
    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        // The last iteration first: what was seen of it is written before.
        let told = &self.0.told;
        let done = told.load(0);
        let [stale_iterations, stale_words, first, gave_up] = [1, 2, 3, 4].map(|index| told.load(index));
        Seen { done, stale_iterations, stale_words, first, gave_up: gave_up != 0 }
    }

    /// Waits until it is done.
    ///
    /// # Errors
    /// The kernel failed.
    pub fn finish(&self) -> Result<Seen, GpuError> {
        self.0.stream.finish()?;
        Ok(self.seen())
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let _ = self.0.stream.finish();
    }
}

fn pointer<T>(value: &mut T) -> *mut c_void {
    std::ptr::from_mut(value).cast()
}

fn blocks(length: u64) -> u32 {
    u32::try_from(length.div_ceil(THREADS.into())).unwrap_or(BLOCKS).clamp(1, BLOCKS)
}

/// Refuses what no allocation of this process has all of.
fn within(at: u64, length: u64) -> Result<(), GpuError> {
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    match super::reach::gpu_memory(at, bytes) {
        Some(_) => Ok(()),
        None => Err(GpuError::NotAsked { why: format!("{length} bytes at {at:#x} are no GPU memory of this process") }),
    }
}

// SAFETY: handles that CUDA takes on any thread where the context is current, which each call makes so.
unsafe impl Send for Kernels {}
