//! `rdmadoctor gpu`.

use clap::Args;

use super::progress::Progress;
use super::session::Session;
use super::{UsageError, exit};
use crate::catalog::{Catalog, Engine};
use crate::checks;
use crate::gpu::GpuName;

/// Arguments of `gpu`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this GPU, by its number, PCI address or UUID.
    #[arg(value_name = "GPU")]
    gpu: Option<GpuName>,
    /// Which way this engine takes from GPU memory to a NIC, and whether it works here. May be repeated.
    #[arg(long, value_name = "NAME", add = super::complete::gpu_engines())]
    engine: Vec<String>,
    /// Look only; allocate nothing and copy nothing.
    #[arg(long)]
    no_try: bool,
}

/// Shows GPUs, and tries each kind of their memory by each way with each NIC.
pub fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<u8> {
    let catalog = Catalog::load()?;
    let engines = arguments.engine.iter().map(|name| engine(&catalog, name)).collect::<Result<Vec<_>, _>>()?;
    let mut progress = Progress::new("gpu", session.output.quiet);
    let tried = session.host.try_gpus(arguments.gpu.as_ref(), arguments.no_try, &mut |detail| progress.at(detail))?;
    let document = checks::survey(tried, &engines);
    drop(progress);
    session.output.print(&document)?;
    Ok(match () {
        () if session.host.interrupted() => exit::INTERRUPTED,
        () if document.has_failed() => exit::FAILED,
        () => exit::OK,
    })
}

/// An engine whose way to GPU memory is known.
fn engine<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Engine, UsageError> {
    let known = || catalog.engines().iter().filter(|engine| engine.gpu_paths.is_some());
    known().find(|engine| engine.is_called(name)).ok_or_else(|| {
        let known = known().map(|engine| engine.name.as_str()).collect::<Vec<_>>().join(", ");
        UsageError(format!("the way of `{name}` to GPU memory is not known; known are those of {known}"))
    })
}
