//! What only EFA's own library makes: queue pairs of type SRD.
#![allow(unsafe_code, reason = "calls libefa through the table of entry points")]

use nix::errno::Errno;

use super::{CallError, ErrorNumber, ProtectionDomain, QueuePair, QueuePairInit};

/// `EFADV_QP_DRIVER_TYPE_SRD` of efadv.h.
pub const EFADV_QP_DRIVER_TYPE_SRD: u32 = 0;

impl ProtectionDomain {
    /// Creates a queue pair of EFA's type SRD (efadv_create_driver_qp(3)). `asked` has the code of a type of the driver's own.
    ///
    /// # Errors
    /// The call failed: EOPNOTSUPP says that the device is no EFA. ENOSYS where there is no libefa that has it.
    pub fn create_srd_qp(&self, asked: &QueuePairInit<'_>) -> Result<QueuePair, CallError> {
        const CALL: &str = "efadv_create_driver_qp";
        let context = &self.0.context.0;
        let Some(create) = context.verbs.create_efa_qp() else {
            let errno = ErrorNumber(Errno::ENOSYS as i32);
            return Err(CallError { call: CALL.to_owned(), object: "libefa.so.1, which is not there or too old".to_owned(), errno });
        };
        let mut init = asked.raw(asked.cq);
        Errno::clear();
        // SAFETY: everything that `init` points to lives, and the queue pair keeps it alive.
        let raw = unsafe { create(self.0.raw, &raw mut init, EFADV_QP_DRIVER_TYPE_SRD) };
        if raw.is_null() {
            return Err(CallError::last(CALL, &context.name));
        }
        Ok(QueuePair {
            pd: self.clone(),
            raw,
            caps: init.cap.into(),
            qp_type: asked.qp_type,
            manager: None,
            _uses: (asked.cq.clone(), asked.cq.clone(), asked.srq.cloned()),
        })
    }
}
