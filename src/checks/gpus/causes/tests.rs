use super::*;
use crate::checks::gpus::prerequisites::{Met, prerequisites};
use crate::checks::tests::healthy;
use crate::verbs::ErrorNumber;

const GPU: &str = "0000:1b:00.0";

fn verbs(errno: i32) -> Refusal {
    Refusal::Verbs { error: CallError { call: "the call".to_owned(), object: "mlx5_0".to_owned(), errno: ErrorNumber(errno) } }
}

fn of(facts: &Facts, form: AllocKind, path: Path, refusal: &Refusal) -> Vec<Cause> {
    causes(facts, &RefusedMemory { form, path, refusal, gpu: GPU, device: Some("mlx5_0"), bytes: 2 << 20 })
}

/// The first cause, and how sure it is.
fn first(facts: &Facts, form: AllocKind, path: Path, refusal: &Refusal) -> (Confidence, String) {
    let causes = of(facts, form, path, refusal);
    let cause = causes.first().unwrap_or_else(|| panic!("no cause of {refusal:?}"));
    (cause.sureness, cause.summary.clone())
}

#[test]
fn an_address_that_nobody_knows() {
    let refusal = verbs(libc::EFAULT);
    let mut facts = healthy();
    let (sureness, summary) = first(&facts, AllocKind::Plain, Path::Peermem, &refusal);
    assert_eq!((sureness, summary.contains("not bound")), (Confidence::Likely, true), "{summary}");
    let (sureness, summary) = first(&facts, AllocKind::VmmNoFlag, Path::Peermem, &refusal);
    assert_eq!((sureness, summary.contains("gpuDirectRDMACapable")), (Confidence::Likely, true), "{summary}");
    assert!(first(&facts, AllocKind::Managed, Path::Peermem, &refusal).1.contains("managed"));
    facts.modules.peer_memory_api = SymbolPresence::Absent;
    let (sureness, summary) = first(&facts, AllocKind::Plain, Path::Peermem, &refusal);
    assert_eq!((sureness, summary.contains("takes no peer-memory clients")), (Confidence::Shown, true), "{summary}");
}

#[test]
fn a_client_that_is_not_loaded() {
    let mut facts = healthy();
    for module in facts.modules.modules.iter_mut().filter(|module| module.name.contains("peer")) {
        module.state = crate::host::modules::ModuleState::OnDisk;
    }
    let (sureness, summary) = first(&facts, AllocKind::Plain, Path::Peermem, &verbs(libc::EFAULT));
    assert_eq!((sureness, summary.as_str()), (Confidence::Shown, "no peer-memory client is loaded"));
}

#[test]
fn a_window_that_is_full() {
    let mut facts = healthy();
    let refusal = verbs(libc::ENOMEM);
    let gpu = facts.gpus.as_mut().unwrap().gpus.iter_mut().find(|gpu| gpu.pci == GPU).unwrap();
    (gpu.bar1_bytes, gpu.bar1_used_bytes) = (Some(256 << 20), Some(255 << 20));
    let (sureness, summary) = first(&facts, AllocKind::Plain, Path::Dmabuf, &refusal);
    assert_eq!((sureness, summary.contains("is full")), (Confidence::Shown, true), "{summary}");
    let gpu = facts.gpus.as_mut().unwrap().gpus.iter_mut().find(|gpu| gpu.pci == GPU).unwrap();
    gpu.bar1_used_bytes = Some(0);
    // What is seen not to be so is no cause.
    assert!(of(&facts, AllocKind::Plain, Path::Dmabuf, &refusal).iter().all(|cause| !cause.summary.contains("window")));
}

#[test]
fn locked_memory_that_is_limited() {
    let mut facts = healthy();
    let own = &mut facts.host.limits.own;
    own.capabilities = None;
    own.limits.retain(|limit| limit.name != "Max locked memory");
    own.limits.push(crate::host::limits::ResourceLimit {
        name: "Max locked memory".to_owned(),
        soft: LimitValue::Value(65536),
        hard: LimitValue::Unlimited,
        unit: Some("bytes".to_owned()),
    });
    let (sureness, summary) = first(&facts, AllocKind::Plain, Path::Staged, &verbs(libc::ENOMEM));
    assert_eq!((sureness, summary.as_str()), (Confidence::Shown, "locked memory is limited"));
}

#[test]
fn drivers_that_have_no_dma_buf() {
    let mut facts = healthy();
    let refusal = Refusal::Gpu { error: GpuError::named("cuMemGetHandleForAddressRange", GPU, "CUDA_ERROR_NOT_SUPPORTED") };
    facts.modules.nvidia.as_mut().unwrap().flavour = Some(NvidiaFlavour::Proprietary);
    let (sureness, summary) = first(&facts, AllocKind::Plain, Path::Dmabuf, &refusal);
    assert_eq!((sureness, summary.contains("closed one")), (Confidence::Shown, true), "{summary}");
    facts.modules.nvidia.as_mut().unwrap().flavour = Some(NvidiaFlavour::Open);
    assert!(first(&facts, AllocKind::Managed, Path::Dmabuf, &refusal).1.contains("managed"));
    facts.host.system.kernel_release = Some("6.1.0".to_owned());
    let (_, summary) = first(&facts, AllocKind::Plain, Path::Dmabuf, &verbs(libc::EOPNOTSUPP));
    assert!(summary.contains("provider") || summary.contains("driver"), "{summary}");
}

#[test]
fn an_iommu_in_the_way() {
    let mut facts = healthy();
    facts.host.system.iommu.mode = IommuMode::Translated;
    let (sureness, summary) = first(&facts, AllocKind::Plain, Path::Dmabuf, &verbs(libc::EINVAL));
    assert_eq!((sureness, summary.contains("IOMMU")), (Confidence::Likely, true), "{summary}");
    facts.host.system.iommu.mode = IommuMode::Off;
    assert!(of(&facts, AllocKind::Plain, Path::Dmabuf, &verbs(libc::EINVAL)).iter().all(|cause| !cause.summary.contains("IOMMU")));
}

#[test]
fn every_refusal_has_a_cause_with_a_way_to_tell() {
    let facts = healthy();
    for path in [Path::Peermem, Path::Dmabuf, Path::DataDirect, Path::Staged] {
        for form in AllocKind::ALL {
            for errno in 1..134 {
                let causes = of(&facts, form, path, &verbs(errno));
                assert!(!causes.is_empty() || path == Path::Staged, "{path} {form:?} {errno}");
                assert!(causes.iter().all(|cause| !cause.tell_apart.is_empty() && !cause.remedy.is_empty()));
                assert!(causes.is_sorted_by_key(|cause| cause.sureness));
            }
        }
    }
}

/// Each bound at the last size that is no cause, and at the first that is one. What is registered has 2 MiB.
#[test]
fn sizes_are_compared_where_they_should_be() {
    const SIZE: u64 = 2 << 20;
    let window = |all, used| {
        let mut facts = healthy();
        let gpu = facts.gpus.as_mut().unwrap().gpus.iter_mut().find(|gpu| gpu.pci == GPU).unwrap();
        (gpu.bar1_bytes, gpu.bar1_used_bytes) = (Some(all), Some(used));
        let causes = of(&facts, AllocKind::Plain, Path::Dmabuf, &verbs(libc::ENOMEM));
        causes.into_iter().map(|cause| cause.summary).find(|summary| summary.contains("window")).unwrap_or_default()
    };
    assert_eq!(window(SIZE, 0), "");
    assert!(window(SIZE - 1, 0).contains("smaller"));
    assert_eq!(window(256 << 20, (256 << 20) - SIZE), "");
    assert!(window(256 << 20, (256 << 20) - SIZE + 1).contains("full"));
    let limited = |soft| {
        let mut facts = healthy();
        facts.host.limits.own.capabilities = None;
        let own = facts.host.limits.own.limits.iter_mut().find(|limit| limit.name == "Max locked memory").unwrap();
        own.soft = LimitValue::Value(soft);
        let sureness = |path| {
            let causes = of(&facts, AllocKind::Plain, path, &verbs(libc::ENOMEM));
            causes.into_iter().find(|cause| cause.summary.contains("locked memory")).map(|cause| cause.sureness)
        };
        (sureness(Path::Staged), sureness(Path::Dmabuf))
    };
    assert_eq!(limited(SIZE), (Some(Confidence::Possible), Some(Confidence::Possible)));
    assert_eq!(limited(SIZE - 1), (Some(Confidence::Shown), Some(Confidence::Likely)));
}

#[test]
fn prerequisites_are_met_from_where_they_should_be() {
    let met = |needs: &str, change: &dyn Fn(&mut Facts)| {
        let mut facts = healthy();
        change(&mut facts);
        let all = prerequisites(&facts, &facts.gpus.as_ref().unwrap().gpus[0]);
        all.into_iter().find(|one| one.needs.contains(needs)).unwrap().met
    };
    let cuda = |version: &str| met("CUDA 12.8", &|facts| facts.gpus.as_mut().unwrap().cuda.driver_version = Some(version.to_owned()));
    assert_eq!(["12.8", "13.0", "12.7", "11.9"].map(cuda), [Met::Present, Met::Present, Met::Missing, Met::Missing]);
    // A staged transfer takes 8 MiB of locked memory.
    let locked = |soft| {
        met("locked host memory", &|facts| {
            facts.host.limits.own.capabilities = None;
            let own = facts.host.limits.own.limits.iter_mut().find(|limit| limit.name == "Max locked memory").unwrap();
            own.soft = LimitValue::Value(soft);
        })
    };
    assert_eq!([8 << 20, (8 << 20) - 1].map(locked), [Met::Present, Met::Missing]);
}
