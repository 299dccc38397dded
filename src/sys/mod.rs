//! The few system calls and instructions that no crate has in a safe form. Outside of verbs, sim and gpu, nothing else is unsafe.
#![allow(unsafe_code, reason = "calls the kernel and reads the processor where no kept crate does")]

mod copy;
mod ethtool;
mod klog;
mod ticks;

pub(crate) use copy::{exit, fork};
pub(crate) use ethtool::ask as ask_ethtool;
pub(crate) use klog::read_all as kernel_log;
pub(crate) use ticks::ticks;
