//! Copies between GPU and locked host memory that run beside the processor, and events that tell when.
#![allow(unsafe_code, reason = "calls a C interface and owns what it returns")]

use cudarc::driver::sys::{self, CUevent, CUresult, CUstream};

use super::cuda::checked;
use super::{Buffer, Context, GpuError, Pinned};

/// CU_STREAM_NON_BLOCKING of cuda.h: waits for no other stream.
const NON_BLOCKING: u32 = 1;

/// Copies in the order in which they were asked for.
pub struct Stream {
    context: Context,
    raw: CUstream,
}

/// A point in a stream.
pub struct Event {
    context: Context,
    raw: CUevent,
}

/// Which way a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From host to GPU.
    ToGpu,
    /// From GPU to host.
    ToHost,
}

impl Context {
    /// A new stream.
    ///
    /// # Errors
    /// `cuStreamCreate` failed.
    pub fn stream(&self) -> Result<Stream, GpuError> {
        self.enter()?;
        let mut raw: CUstream = std::ptr::null_mut();
        // SAFETY: a handle that outlives the call.
        checked("cuStreamCreate", self.pci(), unsafe { sys::cuStreamCreate(&raw mut raw, NON_BLOCKING) })?;
        Ok(Stream { context: self.clone(), raw })
    }

    /// A new event.
    ///
    /// # Errors
    /// `cuEventCreate` failed.
    pub fn event(&self) -> Result<Event, GpuError> {
        self.enter()?;
        let mut raw: CUevent = std::ptr::null_mut();
        // SAFETY: a handle that outlives the call.
        checked("cuEventCreate", self.pci(), unsafe { sys::cuEventCreate(&raw mut raw, 0) })?;
        Ok(Event { context: self.clone(), raw })
    }
}

impl Stream {
    /// Asks for a copy. Both memories must live until the stream has come past it, which [`Stream::finish`] and [`Event::is_past`] tell.
    ///
    /// # Errors
    /// The range is not of both memories, or the copy was refused.
    pub fn copy(&self, direction: Direction, gpu: (&Buffer, usize), host: (&Pinned, usize), bytes: usize) -> Result<(), GpuError> {
        let ((buffer, at), (pinned, place)) = (gpu, host);
        let fits = |offset: usize, length: usize| offset.checked_add(bytes).is_some_and(|end| end <= length);
        if !fits(at, buffer.length()) || !fits(place, pinned.length()) {
            return Err(GpuError::NotAsked { why: format!("a copy of {bytes} bytes goes beyond its memory") });
        }
        self.context.enter()?;
        let (device, pci) = (buffer.address() + at as u64, self.context.pci());
        // SAFETY: both ranges are within their memories, which outlive the copy by the terms above.
        unsafe {
            let page = pinned.pages().as_ptr().cast::<u8>().add(place);
            match direction {
                Direction::ToGpu => checked("cuMemcpyHtoDAsync_v2", pci, sys::cuMemcpyHtoDAsync_v2(device, page.cast(), bytes, self.raw)),
                Direction::ToHost => checked("cuMemcpyDtoHAsync_v2", pci, sys::cuMemcpyDtoHAsync_v2(page.cast(), device, bytes, self.raw)),
            }
        }
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    /// Waits for all that was asked for.
    ///
    /// # Errors
    /// One of the copies failed.
    pub fn finish(&self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the stream lives.
        checked("cuStreamSynchronize", self.context.pci(), unsafe { sys::cuStreamSynchronize(self.raw) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Nothing may still be copied when the memory goes.
        let _ = self.finish();
        // SAFETY: created once and destroyed once.
        unsafe { sys::cuStreamDestroy_v2(self.raw) };
    }
}

impl Event {
    /// Marks where the stream is now.
    ///
    /// # Errors
    /// `cuEventRecord` failed.
    pub fn record(&self, stream: &Stream) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: both live.
        checked("cuEventRecord", self.context.pci(), unsafe { sys::cuEventRecord(self.raw, stream.raw) })
    }

    /// Whether the stream has come past it.
    ///
    /// # Errors
    /// A copy before it failed.
    pub fn is_past(&self) -> Result<bool, GpuError> {
        // SAFETY: the event lives.
        match unsafe { sys::cuEventQuery(self.raw) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => checked("cuEventQuery", self.context.pci(), code).map(|()| true),
        }
    }

    /// Milliseconds since an earlier event, both past.
    ///
    /// # Errors
    /// One of them is not past.
    pub fn since(&self, earlier: &Self) -> Result<f32, GpuError> {
        let mut milliseconds = 0.0;
        // SAFETY: both live, and the number outlives the call.
        let code = unsafe { sys::cuEventElapsedTime(&raw mut milliseconds, earlier.raw, self.raw) };
        checked("cuEventElapsedTime", self.context.pci(), code).map(|()| milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created once and destroyed once.
        unsafe { sys::cuEventDestroy_v2(self.raw) };
    }
}

// SAFETY: handles that CUDA takes on any thread where the context is current, which each call makes so.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Send for Event {}
